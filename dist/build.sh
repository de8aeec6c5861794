#!/bin/bash
# build.sh: builds everything that is published into target/dist, all of it from one static binary:
#
#   sparkha-VERSION-TARGET.tar.gz   the binary with completions, manual pages, licence and the list of dependencies (CycloneDX)
#   sparkha-….whl                   for pip and uv
#   sparkha_VERSION-1_ARCH.deb      for Debian and Ubuntu, with kubectl's plugin
#   sparkha.yaml                    krew's manifest of the archive
#   sparkha-VERSION-image.tar       the image of the Containerfile
#   SHA256SUMS
#
# The same commit gives the same bytes, in any folder.
set -euo pipefail
cd "$(dirname "$0")/.."
. dist/image.sh
export LC_ALL=C TZ=UTC
umask 022
unset CARGO_TARGET_DIR RUSTFLAGS
cargo=${CARGO:-cargo}
key() { sed -n "s/^$1 = \"\(.*\)\"$/\1/p" Cargo.toml | head -n 1; }
version=$(key version)
# Where archives are published: see docs/decisions/release.md.
url=$(key repository)
url=${url:-https://sparkha.invalid}
target=$(rustc -vV | sed -n 's/^host: //p')
machine=$(dpkg --print-architecture)
# The time of everything in archives.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
REVISION=$(git rev-parse HEAD)
CREATED=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
export SOURCE_DATE_EPOCH VERSION=$version REVISION CREATED
# Before the flags of the binary, which are not theirs.
maturin=$(tests/tool.sh maturin 1.16.0)
cyclonedx=$(tests/tool.sh cargo-cyclonedx 0.5.9)
cargo_deb=$(tests/tool.sh cargo-deb 3.8.0)
out=target/dist stage=target/stage/sparkha
rm -rf "$out" target/stage
mkdir -p "$out" "$stage"/{completions,man/man1,links}

echo "the binary"
cc -c -O2 -o target/stage/nss.o dist/nss.c
home=${CARGO_HOME:-$HOME/.cargo}
# No path of this machine, and relocations in their short form.
flags=(-Ctarget-feature=+crt-static -Clink-arg=target/stage/nss.o '-Clink-arg=-Wl,-z,pack-relative-relocs'
  "--remap-path-prefix=$PWD=/sparkha" "--remap-path-prefix=$home=/cargo")
CARGO_ENCODED_RUSTFLAGS=$(printf '\x1f%s' "${flags[@]}")
export CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS:1} CFLAGS="-ffile-prefix-map=$home=/cargo"
"$cargo" build --release --locked --target "$target"
cp "target/$target/release/sparkha" "$stage/"

echo "completions, manual pages, list of dependencies"
for shell in bash:sparkha.bash zsh:_sparkha fish:sparkha.fish; do
  "$stage/sparkha" completions "${shell%:*}" >"$stage/completions/${shell#*:}"
done
"$stage/sparkha" man "$stage/man/man1"
"$cyclonedx" cyclonedx --format json --spec-version 1.5 --describe binaries --target "$target" --quiet
sed "s|path+file://$PWD|path+file:///sparkha|g" sparkha_bin.cdx.json >"$stage/sparkha.cdx.json"
rm sparkha_bin.cdx.json
cp LICENSE README.md CHANGELOG.md "$stage/"

echo "the archive"
archive=sparkha-$version-$target.tar.gz
tar c --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --exclude=links \
  --transform "s|^sparkha|${archive%.tar.gz}|" -C target/stage sparkha | gzip -9n >"$out/$archive"
cp "$stage/sparkha.cdx.json" "$out/sparkha-$version.cdx.json"

echo "krew's manifest"
cat >"$out/sparkha.yaml" <<YAML
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: sparkha
spec:
  version: v$version
  homepage: $url
  shortDescription: $(key description | sed 's/^Runs/Run/; s/ on Kubernetes//; s/standalone //')
  description: |
    sparkha deploys highly available standalone Spark clusters: masters that
    elect their leader in ZooKeeper, and workers that offer what their pods have.
    It needs no custom resource and no cluster-wide role.
  caveats: |
    For completion:
      ln -s kubectl-sparkha "\${KREW_ROOT:-\$HOME/.krew}/bin/kubectl_complete-sparkha"
  platforms:
  - selector:
      matchLabels:
        os: linux
        arch: $machine
    uri: $url/releases/download/v$version/$archive
    sha256: $(sha256sum "$out/$archive" | cut -d' ' -f1)
    files:
    - from: ${archive%.tar.gz}/sparkha
      to: .
    - from: ${archive%.tar.gz}/LICENSE
      to: .
    bin: sparkha
YAML

echo "the wheel"
# The binary needs no library; maturin gives a wheel one tag, and pip on most systems accepts this one.
"$maturin" build --release --locked --target "$target" --out "$out" --quiet --compatibility manylinux2014 \
  --sbom-include "$stage/sparkha.cdx.json"

echo "the Debian package"
ln -s sparkha "$stage/links/kubectl-sparkha"
ln -s sparkha "$stage/links/kubectl_complete-sparkha"
printf 'sparkha (%s-1) unstable; urgency=medium\n\n  * Release %s, see CHANGELOG.md.\n\n -- %s  %s\n' \
  "$version" "$version" "$(key maintainer)" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" >"$stage/changelog"
"$cargo_deb" deb --no-build --no-strip --locked --target "$target" --output "$out/" --quiet

echo "the image"
program_image "$stage/sparkha" "$out/sparkha-$version-image.tar" "sparkha:$version"

(cd "$out" && sha256sum -- * >SHA256SUMS)
ls -l "$out"
