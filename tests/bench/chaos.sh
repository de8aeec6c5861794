#!/bin/bash
# Faults at random under three kinds of jobs: see chaos.py, on the local platform, or on several real nodes of the testbed.
#
#   MINUTES=5 SEED=17 tests/bench/chaos.sh PATH-OF-SPARKHA     the same faults in the same order each time
#   NODES=3 …                                                  on so many nodes; those that were up before are ended
#   FAULTS="leader pause" …                                    only some kinds
#   KEEP=1 …                                                   keeps the logs though nothing went wrong
set -euo pipefail
sparkha=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d /var/tmp/sparkha-chaos.XXXXXX)
testbed=$here/../testbed/testbed.sh
# Also where chaos.py itself was killed. Its report is left if something went wrong.
clean() {
  if [ -n "${NODES:-}" ]; then
    # With all that was in the namespace.
    "$testbed" down && "$testbed" leftovers
  else
    nft delete table inet "$CHAOS_TABLE" 2>/dev/null || true
    "$sparkha" teardown chaos --local --yes >/dev/null 2>&1 || true
  fi
  find "$work" -mindepth 1 -maxdepth 1 ! -name report -exec rm -rf {} +
  rmdir "$work" 2>/dev/null || true
}
trap clean EXIT
cat >"$work/sparkha.yaml" <<YAML
name: chaos
masters: {count: 3}
zookeeper: {count: 3}
# Whole applications fit on one worker: none waits for others' cores while workers are away.
workers:
  count: 3
  cores: 6
  memory: 6Gi
  drainSeconds: 60
YAML
if [ -n "${NODES:-}" ]; then
  "$testbed" up
  eval "$("$testbed" env)"
  export CHAOS_NAMESPACE=chaos
  kubectl create namespace "$CHAOS_NAMESPACE" >/dev/null
  kubectl -n "$CHAOS_NAMESPACE" apply -f - >/dev/null <<YAML
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: chaos}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
YAML
  cat >>"$work/sparkha.yaml" <<YAML
  volumes: [{name: chaos, mountPath: /chaos, persistentVolumeClaim: {claimName: chaos}}]
# Masters and ZooKeepers are asked from outside of the cluster.
networkPolicy: {enabled: false}
YAML
  timeout 60 bash -c 'until kubectl -n "$CHAOS_NAMESPACE" get pvc chaos -o jsonpath={.status.phase} | grep -q Bound; do sleep 0.5; done'
else
  SPARK_HOME=${SPARK_HOME:-$("$sparkha" local fetch 2>/dev/null)}
  export SPARK_HOME XDG_STATE_HOME=$work/state
  # JVMs with their first compiler only: a third of the processor time of what runs for minutes.
  mkdir -p "$work/java/bin"
  printf '#!/bin/sh\nexec "%s" -XX:TieredStopAtLevel=1 "$@"\n' "$(readlink -f "$(command -v java)")" >"$work/java/bin/java"
  chmod +x "$work/java/bin/java"
  export JAVA_HOME=$work/java
  export CHAOS_TABLE=sparkha_chaos_$$
fi
# Not exec: the trap is this shell's.
python3 -B "$here/chaos.py" "$sparkha" "$work/sparkha.yaml" "$work/state/sparkha/clusters/default/chaos"
