#!/usr/bin/env bash
# Usage: scripts/regression.sh [OPTION of `corelane-loadgen regression`]...
#
# Compares this checkout with bench/baseline/main_latest.json, instruction counts included. Exit code 0: no regression,
# 1: regression, 2: no baseline, or a usage error.
#
# Options of `corelane-loadgen regression`:
#   --only --repeats --duration --full --scale --url --stdio --server-core --cpus --stages --baseline --threshold --json --self-test
#   --quiet -q
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
read_options "$@"

need valgrind valgrind
need_build
mkdir -p target/bench
cargo build --release --package corelane-loadgen --bins
cargo bench --bench instructions -- --json "$PWD/target/bench/instructions.json"
exec target/release/corelane-loadgen regression --instructions target/bench/instructions.json "$@"
