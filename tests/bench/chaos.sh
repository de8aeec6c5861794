#!/bin/bash
# Faults at random under three kinds of jobs: see chaos.py, on the local platform.
#
#   MINUTES=5 SEED=17 tests/bench/chaos.sh PATH-OF-SPARKHA     the same faults in the same order each time
#   FAULTS="leader pause" …                                    only some kinds
#   KEEP=1 …                                                   keeps the logs though nothing went wrong
set -euo pipefail
sparkha=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d /var/tmp/sparkha-chaos.XXXXXX)
mkdir "$work/jobs"
SPARK_HOME=${SPARK_HOME:-$("$sparkha" local fetch 2>/dev/null)}
export SPARK_HOME XDG_STATE_HOME=$work/state
# JVMs with their first compiler only: a third of the processor time of what runs for minutes.
mkdir -p "$work/java/bin"
printf '#!/bin/sh\nexec "%s" -XX:TieredStopAtLevel=1 "$@"\n' "$(readlink -f "$(command -v java)")" >"$work/java/bin/java"
chmod +x "$work/java/bin/java"
export JAVA_HOME=$work/java
export CHAOS_TABLE=sparkha_chaos_$$
# Also where chaos.py itself was killed. Its report is left if something went wrong.
clean() {
  nft delete table inet "$CHAOS_TABLE" 2>/dev/null || true
  "$sparkha" teardown chaos --local --yes >/dev/null 2>&1 || true
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
# Not exec: the trap is this shell's.
python3 -B "$here/chaos.py" "$sparkha" "$work/sparkha.yaml" "$XDG_STATE_HOME/sparkha/clusters/default/chaos"
