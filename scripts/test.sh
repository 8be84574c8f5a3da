#!/usr/bin/env bash
# Usage: scripts/test.sh
#
# Runs everything that CI runs: format, lints, feature combinations, tests with the official clients, documentation, the ring
# under AddressSanitizer. Installs what it needs on a fresh Debian or Ubuntu.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
read_options "$@"
no_arguments "$@"

# Everything is built once here, and a small disk is enough.
export CARGO_INCREMENTAL=0
df -h . | tail -1

need_build
need node nodejs
need npm npm
need python3 python3
python3 -c 'import ensurepip' 2>/dev/null || install_packages python3-venv
need strace strace
need prlimit util-linux
need curl curl
need openssl openssl
PATH="$PATH:/usr/sbin"
need nginx nginx-light
need haproxy haproxy
need systemd-analyze systemd
need_promtool
/usr/bin/python3 -c "import seccomp" 2>/dev/null || install_packages python3-seccomp
command -v cargo-nextest >/dev/null || cargo install --locked cargo-nextest
command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
rustup component list --installed 2>/dev/null | grep -q rustfmt || rustup component add rustfmt clippy

cargo fmt --all --check
cargo deny --workspace check licenses bans sources
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy --all-targets --features tokio,anyhow -- -D warnings
for features in "" cli tokio anyhow; do
  cargo clippy --no-default-features --features "$features" --lib -- -D warnings
done
cargo clippy --features jemalloc --bins -- -D warnings
# What two of the tests would otherwise build while others measure time.
cargo build --package corelane-client-check
cargo build --examples --features tokio,anyhow
scripts/corpora.sh
cargo nextest run --workspace --features tokio,anyhow --no-fail-fast
cargo test --workspace --features tokio,anyhow --doc
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --package corelane --package corelane-ring --package corelane-loadgen

# The only unsafe code, with every memory access checked. Needs a nightly compiler; without one this is not run.
if cargo +nightly --version >/dev/null 2>&1; then
  target=$(rustc +nightly -vV | sed -n 's/^host: //p')
  # Freed memory is held back a little only, for a test watches the process's size. loom switches stacks by itself, which the
  # sanitizer cannot follow.
  RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS=quarantine_size_mb=1:detect_leaks=1 CARGO_TARGET_DIR=target/asan \
    cargo +nightly nextest run --target "$target" --package corelane --package corelane-ring --lib --test ring \
    -E "not test(sleep_state)" --no-fail-fast
else
  echo "no nightly compiler: the ring's tests were not run under AddressSanitizer"
  # Where CI is set, a check that was skipped is a failure.
  [ -z "${CI:-}" ] || exit 1
fi
