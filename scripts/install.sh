# Sourced by the other scripts: installs what a fresh Debian or Ubuntu machine lacks.

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

install_packages() {
  if [ -z "${corelane_apt_updated:-}" ]; then as_root apt-get update -qq; corelane_apt_updated=1; fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# need COMMAND PACKAGE: installs the package unless the command is there.
need() { command -v "$1" >/dev/null || install_packages "$2"; }

# Rust by its own installer, where there is none.
need_rust() {
  command -v cargo >/dev/null && return
  need curl curl
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
  . "$HOME/.cargo/env"
}
