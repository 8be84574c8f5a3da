#!/usr/bin/env bash
# Installs what is missing on a fresh Debian or Ubuntu, builds corelane, and serves: scripts/serve.sh [ARGUMENTS of `corelane serve`]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh

need cc build-essential
need_rust
cargo build --release --bin corelane
exec target/release/corelane serve "$@"
