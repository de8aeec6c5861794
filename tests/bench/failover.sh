#!/bin/bash
# How fast another master leads when the leader has gone, on the local platform with the default cluster: see failover.py. Long ones are
#
#   TRIALS=200 tests/bench/failover.sh PATH-OF-SPARKHA     200 leaders lost in each way; never two ALIVE at once
#   LOAD=600 TRIALS=20 …                                   the machine at full load for ten minutes first; nobody may fail over
#   WAYS="jvm node" FAILOVER_SECONDS=6 …                   only some ways, or with another session time-out
set -euo pipefail
sparkha=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
SPARK_HOME=${SPARK_HOME:-$("$sparkha" local fetch 2>/dev/null)}
export SPARK_HOME XDG_STATE_HOME=$work/state
trap '"$sparkha" teardown --local --yes >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
cat >"$work/sparkha.yaml" <<END
${FAILOVER_SECONDS:+zookeeper: {failoverSeconds: $FAILOVER_SECONDS\}}
END
python3 "$here/failover.py" "$sparkha" "$work/sparkha.yaml" "$XDG_STATE_HOME/sparkha/clusters/default/spark"
