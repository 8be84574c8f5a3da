#!/usr/bin/env bash
# Usage: scripts/attacks.sh [NAME]... [OPTION of `corelane-loadgen attack`]...
#
# Attacks servers from one client address while a client from another is served, and prints what it was refused and how much longer
# it waited than beside the same attack on another server of the same core. Takes about 12 minutes plus the build. Exit code 1: a
# request was refused, or the p99 is more than twice that of the control.
#
# NAME is an attack; all are run by default, and `scripts/attacks.sh list` prints them. All attacks in turn on one server in a memory
# control group, and a million malformed or aborted requests:
#   scripts/attacks.sh --minutes 10 --memory-group 512MiB
#   scripts/attacks.sh malformed --requests 1000000
#
# Options of `corelane-loadgen attack`:
#   --rounds --duration -d --rate --server-core --cpus --config --ratio-max --minutes --requests --memory-group --json --quiet -q
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
read_options "$@"

need_build
cargo build --release --features corelane/jemalloc --package corelane-loadgen --bins
exec target/release/corelane-loadgen attack "$@"
