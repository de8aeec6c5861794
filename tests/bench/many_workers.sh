#!/bin/bash
# One cluster of many workers: what commands take beyond what the server takes. Masters and ZooKeeper servers are real. The workers' pods are on a node
# that exists in the API server only, and a program registers them with the real master. As root, on the cluster of KUBECONFIG, which must reach this
# machine as the testbed does.
#
#   tests/bench/many_workers.sh PATH-OF-SPARKHA        WORKERS=1000
set -euo pipefail
sparkha=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
SPARK_HOME=${SPARK_HOME:-$("$sparkha" local fetch 2>/dev/null)}
export SPARK_HOME
space=sparkha-many
trap 'ip netns delete "$space" 2>/dev/null || true; ip link delete "$space" 2>/dev/null || true; python3 "$here/many_workers.py" remove' EXIT

# The workers' addresses: every connection to them is refused.
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
python3 "$here/many_workers.py" measure "$sparkha"
