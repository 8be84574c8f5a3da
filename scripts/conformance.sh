#!/usr/bin/env bash
# The official conformance suite, as far as it needs no more than tools: scripts/conformance.sh URL|--start
# URL is a server on this machine that has the suite's tools; --start serves examples/everything for the run.
# Prints each scenario's result, and exits 1 if one fails that scripts/conformance/REVISION.yaml does not expect.
set -euo pipefail
url=${1:?usage: scripts/conformance.sh URL|--start}
cd "$(dirname "$0")/.."
. scripts/install.sh

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
  need cc build-essential
  need_rust
  cargo build --quiet --example everything
  coproc everything { exec "$target/debug/examples/everything" serve --listen 127.0.0.1:0 --admin none 2>&1; }
  server=$everything_PID # bash forgets the variable when the server ends
  trap 'kill "$server" 2>/dev/null || true' EXIT
  read -r said <&"${everything[0]}" || true
  read -r _ _ url _ <<<"$said"
  case $url in http*) ;; *) echo "not ready: $said" >&2; exit 1 ;; esac
fi

both="tools-list tools-call-simple-text tools-call-image tools-call-audio tools-call-embedded-resource
  tools-call-mixed-content tools-call-error dns-rebinding-protection json-schema-2020-12"
# Prints the checks that did not pass, and why.
explain="for (const check of JSON.parse(fs.readFileSync(process.argv[1])))
  if (['FAILURE', 'WARNING'].includes(check.status))
    console.log('  ' + check.status, check.id + ':', check.errorMessage || check.description)"
status=0

run() { # REVISION SCENARIO...
  local revision=$1 scenario log
  shift
  for scenario; do
    log="$home/out/$revision/$scenario"
    rm -rf "$log"
    mkdir -p "$log"
    if "${suite[@]}" server --url "$url" --scenario "$scenario" --spec-version "$revision" -o "$log" \
      --expected-failures "scripts/conformance/$revision.yaml" >"$log/log" 2>&1; then
      echo "$revision $scenario: $(grep '^Passed:' "$log/log")"
    else
      status=1
      echo "$revision $scenario: FAILED ($log/log) $(grep '^Passed:' "$log/log" || tail -n 1 "$log/log")"
      "${suite[0]}" -e "$explain" "$log"/*/checks.json || true
      grep '^  ✓ ' "$log/log" | sed 's/$/ passes, but is expected to fail/' || true
    fi
  done
}

run 2025-11-25 server-initialize ping $both
run 2026-07-28 server-stateless http-header-validation http-custom-header-server-validation $both
exit $status
