#!/bin/bash
# Installs what a local cluster and its PySpark jobs need, where it is missing: Java 17 or newer, Python and pip; and the packages that
# are named.
set -euo pipefail

# try COMMAND…: up to four times, for registries are not always at hand.
try() {
  local n
  for n in 1 2 3; do
    "$@" && return
    echo "failed: $1, trying again" >&2
    sleep $((n * 5))
  done
  "$@"
}

packages=()
java -version >/dev/null 2>&1 || packages+=(default-jre-headless)
command -v python3 >/dev/null || packages+=(python3)
python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
command -v ps >/dev/null || packages+=(procps)
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
for package; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || packages+=("$package")
done
if [ ${#packages[@]} -gt 0 ]; then
  echo "installing ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  try apt-get update -qq
  try apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
