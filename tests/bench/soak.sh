#!/bin/bash
# A router under load for an hour while pods come and go and leaders change: does its memory stay, and does it lose no file descriptor? The pods
# exist in the API server only, as those of fleet.sh. As root, on the cluster of KUBECONFIG.
#
#   tests/bench/soak.sh PATH-OF-SPARKHA        MINUTES=60 CLUSTERS=40
set -euo pipefail
export CLUSTERS=${CLUSTERS:-40}
sparkha=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
. "$here/addresses.sh"
space=sparkha-soak
masters=
end() {
  [ -z "$masters" ] || kill "$masters" 2>/dev/null || true
  remove_addresses "$space"
  python3 "$here/fleet.py" remove
}
trap end EXIT

add_addresses "$space"
ip netns exec "$space" python3 "$here/fleet.py" masters &
masters=$!
python3 "$here/fleet.py" create "$sparkha"
python3 "$here/soak.py" "$sparkha"
