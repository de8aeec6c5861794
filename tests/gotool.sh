#!/bin/bash
# gotool.sh actionlint | krew: prints the path of this tool, and builds it first if it is missing. Fails, and says why, where there is no Go or
# its modules cannot be reached.
set -euo pipefail
case $1 in
  actionlint) package=github.com/rhysd/actionlint/cmd/actionlint version=1.7.12 ;;
  krew) package=sigs.k8s.io/krew/cmd/krew version=0.5.0 ;;
esac
cache=${SPARKHA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sparkha}
program=$cache/$1-$version
if [ ! -x "$program" ]; then
  command -v go >/dev/null || { echo "there is no Go to build $1 $version" >&2; exit 1; }
  mkdir -p "$cache"
  scratch=$(mktemp -d "$cache/build.XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  # Go's caches are read-only by default, and no other Go is downloaded.
  GOPATH=$scratch/go GOCACHE=$scratch/cache GOBIN=$scratch/bin GOFLAGS=-modcacherw GOTOOLCHAIN=local CGO_ENABLED=0 \
    timeout 600 go install -trimpath -ldflags '-s -w' "$package@v$version" >"$scratch/log" 2>&1 ||
    { echo "$1 $version cannot be built: $(tail -n 1 "$scratch/log")" >&2; exit 1; }
  mv "$scratch/bin/$1" "$program"
fi
echo "$program"
