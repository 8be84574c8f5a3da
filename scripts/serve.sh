#!/usr/bin/env bash
# Usage: scripts/serve.sh [--release] [OPTION of `corelane serve`]...
#
# Installs missing packages on a fresh Debian or Ubuntu, builds corelane, and serves on http://127.0.0.1:8080/mcp until Ctrl-C.
#
#   --release    build with link-time optimisation and jemalloc, as for the benchmarks: about 5 minutes on 2 cores, 5 % faster.
#                Without it the first build takes about 2 minutes on 2 cores.
#
# Options of `corelane serve`, described by `target/quick/corelane serve --help`:
#   --config --listen --shards --cpus --placement --spin-us --admin --control --allowed-hosts --allowed-origins --secret-file
#   --log --log-format --stats
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
read_options "$@"

profile=quick options=()
for argument; do
  if [ "$argument" = --release ]; then profile=release; else options+=("$argument"); fi
done
need_build
if [ "$profile" = release ]; then
  echo "building corelane with link-time optimisation: about 5 minutes on 2 cores the first time" >&2
  cargo build --release --features jemalloc --bin corelane
else
  echo "building corelane: about 2 minutes on 2 cores the first time (--release makes the build that the benchmarks measure)" >&2
  cargo build --profile quick --bin corelane
fi
exec "${CARGO_TARGET_DIR:-target}/$profile/corelane" serve ${options[@]+"${options[@]}"}
