#!/bin/bash
# How long nobody leads, and how long a job stands still, when a node is lost; on the local platform: see lost_node.py. As root, for nft.
#
#   TRIALS=10 WAYS="leader worker" tests/bench/lost_node.sh PATH-OF-SPARKHA
set -euo pipefail
sparkha=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
SPARK_HOME=${SPARK_HOME:-$("$sparkha" local fetch 2>/dev/null)}
export SPARK_HOME XDG_STATE_HOME=$work/state
trap '"$sparkha" teardown --local --yes >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
cat >"$work/sparkha.yaml" <<END
defaultCores: all
workers: {count: ${WORKERS:-3}}
${CLUSTER_FILE:-}
END
python3 "$here/lost_node.py" "$sparkha" "$work/sparkha.yaml" "$XDG_STATE_HOME/sparkha/clusters/default/spark"
