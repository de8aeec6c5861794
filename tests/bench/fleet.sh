#!/bin/bash
# Many clusters that exist in the API server only: how long and how much memory `list -A` and the router take. Their pods have a status and no
# kubelet; their masters are one server in a network namespace that answers at all their addresses. As root, on the cluster of KUBECONFIG.
#
#   tests/bench/fleet.sh PATH-OF-SPARKHA        CLUSTERS=1000 SECONDS_IDLE=30 KEEP=
set -euo pipefail
sparkha=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
. "$here/addresses.sh"
space=sparkha-fleet
masters=
end() {
  [ -z "$masters" ] || kill "$masters" 2>/dev/null || true
  remove_addresses "$space"
  [ -n "${KEEP:-}" ] || python3 "$here/fleet.py" remove
}
trap end EXIT

add_addresses "$space"
ip netns exec "$space" python3 "$here/fleet.py" masters &
masters=$!
python3 "$here/fleet.py" create "$sparkha"
python3 "$here/fleet.py" measure "$sparkha"
