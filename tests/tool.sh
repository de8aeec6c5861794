#!/bin/bash
# Prints where a tool of Cargo's is, in this version and no other, and builds it first if it is not there: tool.sh cargo-deny 0.20.2
set -euo pipefail
root=${XDG_CACHE_HOME:-$HOME/.cache}/sparkha/$1-$2
for pause in 5 10 15 no; do
  [ ! -x "$root/bin/$1" ] || break
  # It runs for a second or two: what optimisation would win is less than it costs.
  CARGO_PROFILE_DEV_DEBUG=0 "${CARGO:-cargo}" install --quiet --locked --debug --root "$root" "$1@$2" >&2 && break
  [ "$pause" != no ]
  echo "failed: $1, trying again" >&2
  sleep "$pause"
done
echo "$root/bin/$1"
