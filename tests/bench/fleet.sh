#!/bin/bash
# Many clusters that exist in the API server only: how long and how much memory `list -A` and the router take. Their pods have a status and no
# kubelet; their masters are one server in a network namespace that answers at all their addresses. As root, on the cluster of KUBECONFIG.
#
#   tests/bench/fleet.sh PATH-OF-SPARKHA        CLUSTERS=1000 SECONDS_IDLE=30 KEEP=
set -euo pipefail
sparkha=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
space=sparkha-fleet
masters=
end() {
  [ -z "$masters" ] || kill "$masters" 2>/dev/null || true
  ip netns delete "$space" 2>/dev/null || true
  ip link delete "$space" 2>/dev/null || true
  [ -n "${KEEP:-}" ] || python3 "$here/fleet.py" remove
}
trap end EXIT

ip netns add "$space"
ip link add "$space" type veth peer name eth0 netns "$space"
ip address add 10.98.0.1/30 dev "$space"
ip link set "$space" up
ip -n "$space" address add 10.98.0.2/30 dev eth0
ip -n "$space" link set lo up
ip -n "$space" link set eth0 up
ip -n "$space" route add default via 10.98.0.1
ip -n "$space" route add local 10.99.0.0/16 dev lo
ip route add 10.99.0.0/16 via 10.98.0.2
ip netns exec "$space" python3 "$here/fleet.py" masters &
masters=$!
python3 "$here/fleet.py" create "$sparkha"
python3 "$here/fleet.py" measure "$sparkha"
