#!/bin/bash
# Checks dependencies with cargo-deny. Vulnerabilities are checked only with ADVISORIES, the path of a clone of RustSec's database.
set -euo pipefail
cd "$(dirname "$0")/.."
deny=$(tests/tool.sh cargo-deny 0.20.2)
"$deny" --locked check licenses bans sources
[ -n "${ADVISORIES:-}" ] || exit 0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# cargo-deny looks for its own clone under this name.
ln -s "$(realpath "$ADVISORIES")" "$folder/advisory-db-3157b0e258782691"
{
  cat deny.toml
  printf '\n[advisories]\ndb-path = "%s"\n' "$folder"
} >"$folder/deny.toml"
"$deny" --locked --offline --config "$folder/deny.toml" check advisories
