#!/usr/bin/env bash
# Usage: scripts/conformance.sh URL|--start [REVISION]...
#
# Runs every scenario of the official conformance suite for the given revisions (default: 2025-11-25 and 2026-07-28), unscored ones
# included. Prints the result of each scenario, and exits 1 if any fails.
#
#   URL        a local server with the fixtures of the suite
#   --start    serve examples/everything during the run, on two shards
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

# The suite needs a newer Node.js than distributions ship, so Node.js is pinned beside it.
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
  server_log="$home/server.log"
  "$target/debug/examples/everything" serve --listen 127.0.0.1:0 --admin none --shards 2 2>"$server_log" &
  trap "kill $! 2>/dev/null || true" EXIT
  for _ in $(seq 100); do
    url=$(sed -n 's/^listening on \(http[^ ]*\).*/\1/p' "$server_log")
    [ -z "$url" ] || break
    sleep 0.1
  done
  [ -n "$url" ] || { echo "not ready: $(cat "$server_log")" >&2; exit 1; }
fi

# Prints the checks that did not pass, with their reasons. A warning counts as a failure; a skipped check does not.
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
