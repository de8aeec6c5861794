#!/bin/bash
# notes.sh VERSION [CHANGELOG]: prints the section of a version in the changelog.
awk -v head="## [$1]" '/^## / { found = index($0, head) == 1; next } /^\[.*\]: / { found = 0 } found' "${2:-$(dirname "$0")/../CHANGELOG.md}"
