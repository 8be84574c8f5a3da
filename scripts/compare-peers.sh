#!/usr/bin/env bash
# corelane, other servers and a static nginx in turn on one core, with the same generator; the generator beside wrk.
# scripts/compare-peers.sh [OPTIONS of `corelane-loadgen peers`]. A peer that cannot be installed is reported.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin"
. scripts/install.sh

need nginx nginx-light
need wrk wrk
need taskset util-linux
need cc build-essential
need_rust
cargo build --release --package corelane --package corelane-loadgen --bins
absent=()
for peer in rmcp turbomcp typescript fastmcp; do
  echo "installing $peer" >&2
  if ! reason=$(benches/peers/install.sh "$peer" "target/peers/$peer" 2>&1); then
    absent+=(--absent "$peer=${reason##*$'\n'}")
  fi
done
exec target/release/corelane-loadgen peers ${absent[@]+"${absent[@]}"} "$@"
