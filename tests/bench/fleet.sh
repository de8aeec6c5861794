#!/bin/bash
# Many clusters that exist in the API server only. Their pods have a status and no kubelet; their masters are one server in a network namespace
# that answers at all their addresses. As root, on the cluster of KUBECONFIG. Measures how long and how much memory `list -A` and the router take,
# or whether a router under load, while pods come and go and leaders change, keeps its memory and loses no file descriptor:
#
#   tests/bench/fleet.sh PATH-OF-SPARKHA fleet  CLUSTERS=1000 SECONDS_IDLE=30 KEEP=
#   tests/bench/fleet.sh PATH-OF-SPARKHA soak   CLUSTERS=40 MINUTES=60 KEEP=
set -euo pipefail
sparkha=$(realpath "$1") bench=$2
[ "$bench" = fleet ] || export CLUSTERS=${CLUSTERS:-40}
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
python3 "$here/$bench.py" measure "$sparkha"
