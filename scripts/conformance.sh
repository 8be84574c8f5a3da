#!/usr/bin/env bash
# Usage: scripts/conformance.sh URL|--start [REVISION]...
#
# Runs the official conformance suite: every scenario of the given revisions (default: 2025-11-25 and 2026-07-28), those that are
# not scored too. Prints the result of each, and exits 1 if any fails.
#
#   URL        a server on this machine that has the suite's fixtures
#   --start    serve examples/everything for the run, on two shards
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
read_options "$@"
[ $# -gt 0 ] || { usage >&2; exit 2; }
url=$1
shift
revisions=${*:-2025-11-25 2026-07-28}

need node nodejs
need npm npm
target="${CARGO_TARGET_DIR:-target}"
home="$target/conformance"

# The suite needs a newer node than distributions have, so that is pinned beside it.
if ! cmp -s scripts/conformance/package-lock.json "$home/installed"; then
  mkdir -p "$home"
  cp scripts/conformance/package*.json "$home"
  npm ci --prefix "$home" --ignore-scripts --no-audit --no-fund --loglevel=error
  cp "$home/package-lock.json" "$home/installed"
fi
suite=("$home"/node_modules/node-linux-*/bin/node "$home/node_modules/@modelcontextprotocol/conformance/dist/index.js")

if [ "$url" = --start ]; then
  need_build
  cargo build --quiet --example everything
  said="$home/server.log"
  "$target/debug/examples/everything" serve --listen 127.0.0.1:0 --admin none --shards 2 2>"$said" &
  trap "kill $! 2>/dev/null || true" EXIT
  for _ in $(seq 100); do
    url=$(sed -n 's/^listening on \(http[^ ]*\).*/\1/p' "$said")
    [ -z "$url" ] || break
    sleep 0.1
  done
  [ -n "$url" ] || { echo "not ready: $(cat "$said")" >&2; exit 1; }
fi

# Prints the checks that did not pass, and why. A warning is a failure here; what was skipped has nothing to judge.
explain="for (const check of JSON.parse(fs.readFileSync(process.argv[1])))
  if (['FAILURE', 'WARNING'].includes(check.status)) {
    console.log('  ' + check.status, check.id + ':', check.errorMessage || check.description)
    process.exitCode = 1
  }"
status=0
for revision in $revisions; do
  log="$home/out/$revision"
  rm -rf "$log"
  mkdir -p "$log"
  "${suite[@]}" server --url "$url" --requirements "$revision" -o "$log" >"$log/log" 2>&1 || status=1
  sed -n '/=== SUMMARY/,$p' "$log/log" | sed -n "s/^\([✓✗] .*\)/$revision \1/p; s/^Total/$revision total/p; s/^Not scored/$revision &/p"
  for checks in "$log"/*/checks.json; do
    "${suite[0]}" -e "$explain" "$checks" || status=1
  done
done
exit $status
