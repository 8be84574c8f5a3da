#!/usr/bin/env bash
# Measures this machine: every named workload, instruction counts and stage times, held against the budgets.
# scripts/bench.sh [OPTIONS of `corelane-loadgen baseline`]; about 12 minutes and the builds. Leaves the result in
# target/bench/result.json and a page of it in docs/PERFORMANCE.md.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh

need cc build-essential
need valgrind valgrind
need_rust
out=target/bench
mkdir -p "$out"
cargo build --release --package corelane-loadgen --bins
cargo bench --bench instructions -- --json "$PWD/$out/instructions.json"
cargo bench --bench stages -- --json "$PWD/$out/stages.json"
target/release/corelane-loadgen baseline --output "$out/result.json" \
  --instructions "$out/instructions.json" --stages "$out/stages.json" "$@"
results=("$out/result.json")
[ ! -e target/peers.json ] || results+=(target/peers.json)
target/release/corelane-loadgen report "${results[@]}" --markdown docs/PERFORMANCE.md
target/release/corelane-loadgen budget "${results[@]}"
