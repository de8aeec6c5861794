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
. "$here/addresses.sh"
space=sparkha-many
trap 'remove_addresses "$space"; python3 "$here/many_workers.py" remove' EXIT

# The workers' addresses: every connection to them is refused.
add_addresses "$space"
python3 "$here/many_workers.py" measure "$sparkha"
