#!/usr/bin/env bash
# Usage: scripts/bench.sh [OPTION of `corelane-loadgen baseline`]...
#
# Measures every named workload, instruction counts, stage times and the gain of each optimisation on this machine, and checks them
# against the budgets. Takes about 25 minutes plus the builds. Writes results to target/bench/result.json and ablation.json beside it,
# and their report to docs/PERFORMANCE.md.
#
# Options of `corelane-loadgen baseline`:
#   --only --repeats --duration --full --scale --url --stdio --server-core --cpus --quiet -q
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
read_options "$@"

need valgrind valgrind
need_build
out=target/bench
mkdir -p "$out"
cargo build --release --package corelane-loadgen --bins
cargo bench --bench instructions -- --json "$PWD/$out/instructions.json"
cargo bench --bench stages -- --json "$PWD/$out/stages.json"
target/release/corelane-loadgen baseline --output "$out/result.json" \
  --instructions "$out/instructions.json" --stages "$out/stages.json" "$@"
target/release/corelane-loadgen ablate --output "$out/ablation.json" --plot "$out/ablation.svg"
results=("$out/result.json" "$out/ablation.json")
[ ! -e target/peers.json ] || results+=(target/peers.json)
target/release/corelane-loadgen report "${results[@]}" --markdown docs/PERFORMANCE.md
target/release/corelane-loadgen budget "${results[@]}"
