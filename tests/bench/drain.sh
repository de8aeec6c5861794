#!/bin/bash
# A leader change while a worker is drained, on the local platform: see drain.py. TRIALS, LAST and SEED: see there.
set -euo pipefail
sparkha=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
SPARK_HOME=${SPARK_HOME:-$("$sparkha" local fetch 2>/dev/null)}
export SPARK_HOME XDG_STATE_HOME=$work/state
trap '"$sparkha" teardown --local --yes >/dev/null 2>&1 || true; [ -n "${KEEP:-}" ] || rm -rf "$work"' EXIT
echo "workers: {count: 2, cores: 2, memory: 3Gi}" >"$work/sparkha.yaml"
python3 "$here/drain.py" "$sparkha" "$work/sparkha.yaml" "$XDG_STATE_HOME/sparkha/clusters/default/spark"
