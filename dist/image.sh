# shellcheck shell=bash # sourced
# Writes images as archives for `docker load` and `ctr images import`, without Docker. The same contents are the same bytes.

# program_image PROGRAM ARCHIVE TAG: the image that the Containerfile describes, or one like it of another program. VERSION, REVISION and CREATED
# are its arguments. A program that is not static gets the libraries that it loads.
program_image() {
  local from root library user entrypoint labels
  from=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/Containerfile
  root=$(mktemp -d)
  install -D -m 755 "$1" "$root$(dirname "$(sed -n 's/^COPY sparkha //p' "$from")")/${1##*/}"
  for library in $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*'); do
    install -D -m 755 "$library" "$root$library"
  done
  user=$(sed -n 's/^USER //p' "$from") entrypoint=$(sed -n "s|/sparkha\"|/${1##*/}\"|; s/^ENTRYPOINT //p" "$from")
  labels=$(sed -n 's/^LABEL \(.*\)="\(.*\)"$/"\1":"\2"/p' "$from" | paste -sd, |
    sed "s|\$VERSION|${VERSION:-}|; s|\$REVISION|${REVISION:-}|; s|\$CREATED|${CREATED:-}|")
  image_archive "$root" "$2" "{\"User\":\"$user\",\"Entrypoint\":$entrypoint,\"Labels\":{$labels}}" "$3"
  rm -rf "$root"
}

# image_archive FOLDER ARCHIVE CONFIG TAG…: an image of one layer, as `docker save` would write it.
image_archive() {
  local folder=$1 archive=$2 config=$3 work digest tags machine epoch
  local tar=(tar c --sort=name --format=gnu --numeric-owner)
  shift 3
  # An image that is published does not depend on who made it, and when.
  [ -z "${CREATED:-}" ] || tar+=(--mtime="$CREATED" --owner=0 --group=0)
  work=$(mktemp -d)
  chmod 755 "$folder"
  "${tar[@]}" -f "$work/layer.tar" -C "$folder" .
  digest=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
  tags=$(printf '"%s",' "$@")
  machine=$(uname -m) epoch=${CREATED:+"\"created\":\"$CREATED\","}
  case $machine in x86_64) machine=amd64 ;; aarch64) machine=arm64 ;; esac
  printf '{"architecture":"%s","os":"linux",%s"config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$machine" "$epoch" "$config" "$digest" >"$work/config.json"
  printf '[{"Config":"config.json","RepoTags":[%s],"Layers":["layer.tar"]}]' "${tags%,}" >"$work/manifest.json"
  "${tar[@]}" -f "$archive" -C "$work" config.json manifest.json layer.tar
  rm -rf "$work"
}
