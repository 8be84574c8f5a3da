#!/usr/bin/env bash
# Usage: scripts/daily-bench.sh [DIRECTORY]
#
# Writes one result per day to DIRECTORY (default: target/bench/daily), and a report of the trend over all results.
# docs/BENCHMARKING.md has a systemd timer and a cron line for it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
read_options "$@"
no_arguments "${@:2}"

need_build
directory=${1:-target/bench/daily}
mkdir -p "$directory"
cargo build --release --package corelane-loadgen --bins
status=0
target/release/corelane-loadgen baseline --repeats 3 --output "$directory/$(date -u +%Y-%m-%d).json" || status=$?
target/release/corelane-loadgen report "$directory"/*.json --trend "$directory/trend.html"
echo "trend: $directory/trend.html"
exit "$status"
