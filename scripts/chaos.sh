#!/usr/bin/env bash
# Usage: scripts/chaos.sh [--write-docs] [NAME]... [OPTION of `corelane-loadgen chaos`]...
#
# Does faults to a running server under load, each to a server of its own, and prints how the server showed and refused it, how soon it
# had recovered, what was lost, and the p99 of a bystander before, during and after it. Takes about two minutes plus the build. Exit
# code 1: a fault was not survived as it must be. Faults that this machine does not permit are skipped and named; root permits all.
#
# NAME is a fault; all are injected by default, and `scripts/chaos.sh list` prints them.
# --write-docs replaces the table in docs/RELIABILITY.md by that of this run.
#
# Options of `corelane-loadgen chaos`:
#   --duration -d --rate --server-core --cpus --limit --detected-max --recovered-max --p99-max --json --output -o --quiet -q
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
read_options "$@"

write_docs=
arguments=()
for argument; do
  if [ "$argument" = --write-docs ]; then write_docs=1; else arguments+=("$argument"); fi
done

need_build
need nft nftables
cargo build --release --package corelane-loadgen --bins
loadgen=target/release/corelane-loadgen
[ -n "$write_docs" ] || exec "$loadgen" chaos "${arguments[@]}"

page=docs/RELIABILITY.md
table=$(mktemp)
trap 'rm -f "$table" "$page.new"' EXIT
status=0
"$loadgen" chaos "${arguments[@]}" --output "$table" || status=$?
[ "$status" -le 1 ] || exit "$status"
awk -v table="$table" '
  /^<!-- chaos: end -->$/ { inside = 0 }
  !inside { print }
  /^<!-- chaos: begin / { inside = 1; while ((getline line < table) > 0) print line }
' "$page" > "$page.new"
mv "$page.new" "$page"
exit "$status"
