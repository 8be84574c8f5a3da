#!/usr/bin/env bash
# Usage: scripts/compare-peers.sh [OPTION of `corelane-loadgen peers`]...
#
# Measures corelane, other servers and a static nginx in turn on one core with the same load generator, and compares the generator
# with wrk. Installs the other servers; the report names those that cannot be installed.
#
# Options of `corelane-loadgen peers`:
#   --directory --corelane --nginx --absent --only --rounds --duration --rate --connections --server-core --cpus --json --quiet -q
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
read_options "$@"

need nginx nginx-light
need wrk wrk
need taskset util-linux
need_build
cargo build --release --features corelane/jemalloc --package corelane --package corelane-loadgen --bins
absent=()
for peer in rmcp turbomcp typescript fastmcp; do
  echo "installing $peer" >&2
  if ! reason=$(benches/peers/install.sh "$peer" "target/peers/$peer" 2>&1); then
    absent+=(--absent "$peer=${reason##*$'\n'}")
  fi
done
exec target/release/corelane-loadgen peers ${absent[@]+"${absent[@]}"} "$@"
