#!/usr/bin/env bash
# Throughput, latency and idle cost of corelane beside a static nginx, measured in one run.
# scripts/bench.sh --help lists the options; about 12 minutes without any, 4 with --quick.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin"
. scripts/install.sh

need nginx nginx-light
need wrk wrk
need taskset util-linux
need cc build-essential
need_rust

# A copy, because cargo bench builds the binary again with the features of the dev-dependencies.
target="${CARGO_TARGET_DIR:-target}"
if [[ -z ${CORELANE_BIN:-} ]]; then
    cargo build --release --bin corelane
    install -D "$target/release/corelane" "$target/bench/corelane"
    export CORELANE_BIN="$target/bench/corelane"
fi
exec cargo bench --bench throughput -- "$@"
