#!/usr/bin/env bash
# Sourced by the other scripts: installs packages that are missing on a fresh Debian or Ubuntu, and parses options.
# Executed directly, it prints this text and does nothing.

PATH="$PATH:/usr/sbin" # of nft and nginx

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

update_package_lists() {
  if [ -z "${corelane_apt_updated:-}" ]; then as_root apt-get update -qq; corelane_apt_updated=1; fi
}

install_packages() {
  update_package_lists
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# need COMMAND PACKAGE: installs the package unless the command exists as a program. Bash has a kill of its own, which programs cannot
# start.
need() { type -P "$1" >/dev/null || install_packages "$2"; }

# Installs Python with its module for environments.
need_python() {
  need python3 python3
  python3 -c 'import ensurepip' 2>/dev/null || install_packages python3-venv
}

# Installs only promtool: its package would also start a server.
need_promtool() {
  command -v promtool >/dev/null && return
  update_package_lists
  local directory
  directory=$(mktemp -d)
  (cd "$directory" && apt-get download -qq prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool)
  as_root install "$directory/usr/bin/promtool" /usr/local/bin/promtool
  rm -r "$directory"
}

# Installs Rust with rustup unless cargo exists.
need_rust() {
  command -v cargo >/dev/null && return
  need curl curl
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
  . "$HOME/.cargo/env"
}

# Installs a C compiler, make and git: the build script of glommio compiles liburing and runs git, that of jemalloc runs make.
need_build() {
  need cc build-essential
  need make make
  need git git
  need_rust
}

# Prints the help of a script, which is the comment at its top.
usage() { sed -n '2,/^[^#]/ s/^#\( \|$\)//p' "scripts/${0##*/}"; }

# read_options "$@": prints the help for --help and exits 0; exits 2 for an option that the help does not name.
read_options() {
  local argument option words
  words=" $(usage | tr -cs 'a-zA-Z0-9-' ' ') "
  for argument; do
    case $argument in
      -h | --help) usage; exit 0 ;;
      -?*)
        option=${argument%%=*}
        case $words in *" $option "*) continue ;; esac
        echo "error: ${0##*/} has no option $option; scripts/${0##*/} --help lists its options" >&2
        exit 2
        ;;
    esac
  done
}

# no_arguments "$@": exits 2 if there is an argument.
no_arguments() {
  [ $# = 0 ] || { echo "error: ${0##*/} takes no argument, not $1" >&2; exit 2; }
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  cd "$(dirname "$0")/.."
  read_options "$@"
  no_arguments "$@"
  usage
fi
