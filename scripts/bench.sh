#!/usr/bin/env bash
# Throughput, latency and idle cost of corelane beside a static nginx, measured in one run.
# scripts/bench.sh --help lists the options; about 12 minutes without any, 4 with --quick.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin"

missing=()
command -v nginx > /dev/null || missing+=(nginx-light)
command -v wrk > /dev/null || missing+=(wrk)
if ((${#missing[@]})); then
    as_root=()
    [[ $(id -u) == 0 ]] || as_root=(sudo)
    "${as_root[@]}" apt-get update
    "${as_root[@]}" apt-get install --yes --no-install-recommends "${missing[@]}"
fi

# A copy, because cargo bench builds the binary again with the features of the dev-dependencies.
target="${CARGO_TARGET_DIR:-target}"
if [[ -z ${CORELANE_BIN:-} ]]; then
    cargo build --release --bin corelane
    install -D "$target/release/corelane" "$target/bench/corelane"
    export CORELANE_BIN="$target/bench/corelane"
fi
exec cargo bench --bench throughput -- "$@"
