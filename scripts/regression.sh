#!/usr/bin/env bash
# Holds this checkout against bench/baseline/main_latest.json, instruction counts included: exit 0 fine, 1 worse,
# 2 nothing to compare with. scripts/regression.sh [OPTIONS of `corelane-loadgen regression`]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh

need cc build-essential
need valgrind valgrind
need_rust
mkdir -p target/bench
cargo build --release --package corelane-loadgen --bins
cargo bench --bench instructions -- --json "$PWD/target/bench/instructions.json"
exec target/release/corelane-loadgen regression --instructions target/bench/instructions.json "$@"
