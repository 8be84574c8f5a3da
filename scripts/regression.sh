#!/usr/bin/env bash
# Usage: scripts/regression.sh [OPTION of `corelane-loadgen regression`]...
#
# Holds this checkout against bench/baseline/main_latest.json, instruction counts included. Exit code 0: not worse, 1: worse,
# 2: nothing to compare with, or wrong usage.
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
