#!/usr/bin/env bash
# Usage: scripts/test.sh
#
# Runs all checks of CI: format, lints, feature combinations, tests with the official clients, documentation, the ring under
# AddressSanitizer. Installs missing packages on a fresh Debian or Ubuntu.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
read_options "$@"
no_arguments "$@"

# Each target is built once, and without incremental data a small disk suffices.
export CARGO_INCREMENTAL=0
df -h . | tail -1

need_build
need node nodejs
need npm npm
need_python
need strace strace
need prlimit util-linux
need script bsdutils
need kill procps
need ip iproute2
need curl curl
need openssl openssl
need chromium chromium
need nft nftables
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
cargo clippy --features faults --lib -- -D warnings
# Built beforehand, because two tests would otherwise build them while others measure time.
cargo build --package corelane-client-check
cargo build --examples --features tokio,anyhow
scripts/corpora.sh
cargo nextest run --workspace --features tokio,anyhow --no-fail-fast -E "not binary(public_api)"
# Compiles the library with a nightly compiler, so not while other tests measure time; prints where it is skipped.
cargo nextest run --workspace --features tokio,anyhow --test public_api --no-capture
# With a fault in the server that a rollback must find.
cargo nextest run --features tokio,anyhow,faults --test rollout
# With the allocator of released binaries, which writes heap profiles.
cargo nextest run --features tokio,anyhow,jemalloc --lib --test heap_profile --test memory \
  -E "binary(heap_profile) | test(free_pages_of_idle_threads) | test(returned_to_the_system)"
cargo test --workspace --features tokio,anyhow --doc
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --package corelane --package corelane-ring --package corelane-loadgen

# Checks every memory access of the only unsafe code. Skipped without a nightly compiler.
if cargo +nightly --version >/dev/null 2>&1; then
  target=$(rustc +nightly -vV | sed -n 's/^host: //p')
  # The quarantine of freed memory is small, because a test measures the size of the process. Tests with loom are excluded:
  # loom switches stacks, which the sanitizer does not support.
  RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS=quarantine_size_mb=1:detect_leaks=1 CARGO_TARGET_DIR=target/nightly \
    cargo +nightly nextest run --target "$target" --package corelane --package corelane-ring --lib --test ring \
    -E "not test(sleep_state)" --no-fail-fast
else
  echo "no nightly compiler: the tests of the ring were not run under AddressSanitizer"
  # In CI a skipped check is a failure.
  [ -z "${CI:-}" ] || exit 1
fi
