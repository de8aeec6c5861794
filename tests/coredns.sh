#!/bin/bash
# Prints the path of a CoreDNS with the plugins that `sparkha route render --format coredns` needs, and builds it first if it is missing:
# the whole of CoreDNS takes minutes. Fails, and says why, where there is no Go or its modules cannot be reached.
set -euo pipefail
version=1.12.0
cache=${SPARKHA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sparkha}
program=$cache/coredns-$version
if [ ! -x "$program" ]; then
  command -v go >/dev/null || { echo "there is no Go to build CoreDNS $version" >&2; exit 1; }
  mkdir -p "$cache"
  scratch=$(mktemp -d "$cache/build.XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  cd "$scratch"
  cat >main.go <<'GO'
package main

import (
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() { coremain.Run() }
GO
  # Go's caches are read-only by default, and no other Go is downloaded.
  export GOPATH=$scratch/go GOCACHE=$scratch/cache GOFLAGS=-modcacherw GOTOOLCHAIN=local CGO_ENABLED=0
  {
    go mod init coredns &&
      timeout 300 go get "github.com/coredns/coredns@v$version" &&
      timeout 600 go build -trimpath -ldflags '-s -w' -o program .
  } >log 2>&1 || { echo "CoreDNS $version cannot be built: $(tail -n 1 log)" >&2; exit 1; }
  mv program "$program"
fi
echo "$program"
