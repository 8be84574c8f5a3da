#!/usr/bin/env bash
# Builds or installs a server that corelane is compared with: benches/peers/install.sh PEER DIRECTORY
# All files are written to DIRECTORY, which the commands of peers.toml use. On failure the last line on stderr is the
# reason; the full log is DIRECTORY/log.
set -euo pipefail
usage="usage: benches/peers/install.sh PEER DIRECTORY"
peer=${1:?$usage}
mkdir -p "${2:?$usage}"
directory=$(cd "$2" && pwd)
cd "$(dirname "$0")/../.."
. scripts/install.sh
cd benches/peers
[ -d "$peer" ] || { echo "no peer $peer" >&2; exit 1; }

# An existing installation is reused if it was made from the current files.
sources=$(find install.sh "$peer" -type f | sort | xargs sha256sum)
[ "$sources" != "$(cat "$directory/installed" 2>/dev/null)" ] || exit 0
rm -f "$directory/installed"

exec 3>&2 >"$directory/log" 2>&1
# npm's last line is the path of its own log, not the reason.
trap 'test $? = 0 || grep -v "complete log of this run" "$directory/log" | tail -n 1 >&3' EXIT

case $peer in
  rmcp | turbomcp)
    need cc build-essential
    need_rust
    cargo build --release --locked --manifest-path "$peer/Cargo.toml" --target-dir "$directory/target"
    cp "$directory/target/release/peer-$peer" "$directory"
    ;;
  typescript)
    need node nodejs
    need npm npm
    cp typescript/* "$directory"
    npm ci --prefix "$directory" --engine-strict --ignore-scripts --no-audit --no-fund --loglevel=error
    ;;
  fastmcp)
    need python3 python3
    python3 -c 'import ensurepip' || install_packages python3-venv
    python3 -m venv --clear "$directory/venv"
    "$directory/venv/bin/pip" install --disable-pip-version-check --requirement fastmcp/requirements.txt
    cp fastmcp/server.py "$directory"
    ;;
esac
echo "$sources" >"$directory/installed"
