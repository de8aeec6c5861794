#!/bin/bash
# systems.sh [TARGET…]: checks that sparkha compiles for macOS and Windows, as root. Debian has the source of Rust's standard library, which
# cargo builds for these targets itself. Nothing is linked, so their SDKs are not needed: C code of dependencies is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=("$@")
[ $# -gt 0 ] || targets=(aarch64-apple-darwin x86_64-pc-windows-gnu)

if ! command -v debootstrap >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
fi
cache=${SPARKHA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sparkha}
# A Debian with a compiler that knows this edition, the library of the same version, and what makes import libraries of Windows.
root=$cache/rust-2
if [ ! -e "$root" ]; then
  mkdir -p "$cache"
  scratch=$(mktemp -d "$cache/build.XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' | grep -v -e security -e updates | head -n 1)
  debootstrap --variant=minbase --include=binutils-mingw-w64-x86-64,ca-certificates,cargo,gcc,libc6-dev,rust-src,rustc testing "$scratch/root" "$mirror" >"$scratch/log" ||
    { tail "$scratch/log" >&2; exit 1; }
  mkdir -p "$scratch/root/sparkha" "$scratch/root/root/.cargo/registry"
  mv "$scratch/root" "$root"
fi

# The library's own dependencies, too.
"${CARGO:-cargo}" fetch --quiet --locked
RUSTC_BOOTSTRAP=1 "${CARGO:-cargo}" fetch --quiet --locked --manifest-path "$root/usr/lib/rustlib/src/rust/library/Cargo.toml"
# shellcheck disable=SC2016 # the inner shell's
unshare --mount --pid --fork --kill-child bash -euc '
  root=$1 registry=$2
  shift 2
  mount --bind . "$root/sparkha"
  mount --bind "$registry" "$root/root/.cargo/registry"
  mount --bind /dev "$root/dev"
  mount -t proc proc "$root/proc"
  exec chroot "$root" env -i HOME=/root PATH=/usr/bin:/bin CC=gcc TARGET_CC=true TARGET_AR=true SDKROOT=/usr RUSTC_BOOTSTRAP=1 \
    CARGO_TARGET_DIR=/root/target bash -euc "
      cd /sparkha
      for target; do
        echo \"\$target, \$(rustc --version)\"
        cargo rustc --quiet --locked --offline --bin sparkha --profile check -Zbuild-std=std,panic_abort --target \"\$target\" -- -D warnings
      done" - "$@"
' - "$root" "${CARGO_HOME:-$HOME/.cargo}/registry" "${targets[@]}"
