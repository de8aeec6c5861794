#!/bin/bash
# A leader that is paused and goes on, on the local platform: see pause_leader.py. Several clusters at once (CLUSTERS), for they mostly wait.
set -euo pipefail
sparkha=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
clusters=${CLUSTERS:-1}
work=$(mktemp -d)
SPARK_HOME=${SPARK_HOME:-$("$sparkha" local fetch 2>/dev/null)}
export SPARK_HOME
end() {
  for ((i = 0; i < clusters; i++)); do
    XDG_STATE_HOME=$work/$i/state "$sparkha" teardown --local --yes >/dev/null 2>&1 || true
  done
  [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap end EXIT
running=()
for ((i = 0; i < clusters; i++)); do
  mkdir "$work/$i"
  echo "workers: {count: 1}" >"$work/$i/sparkha.yaml"
  XDG_STATE_HOME=$work/$i/state FIRST=$((i * ${TRIALS:-10})) \
    python3 "$here/pause_leader.py" "$sparkha" "$work/$i/sparkha.yaml" "$work/$i/state/sparkha/clusters/default/spark" &
  running+=($!)
done
failed=0
for pid in "${running[@]}"; do wait "$pid" || failed=1; done
exit "$failed"
