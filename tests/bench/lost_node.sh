#!/bin/bash
# How long nobody leads, and how long a job stands still, when a node is lost; on the local platform: see lost_node.py. As root, for nft.
#
#   TRIALS=10 WAYS="leader worker" tests/bench/lost_node.sh PATH-OF-SPARKHA
. "$(dirname "$0")/setup.sh"
cat >"$work/sparkha.yaml" <<END
defaultCores: all
workers: {count: ${WORKERS:-3}}
${CLUSTER_FILE:-}
END
python3 "$here/lost_node.py" "$sparkha" "$work/sparkha.yaml" "$cluster"
