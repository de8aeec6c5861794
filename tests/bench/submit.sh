#!/bin/bash
# What `sparkha submit` adds to spark-submit itself, side by side: on this machine, and on Kubernetes (if there is a KUBECONFIG) beside spark-submit in
# a pod that waits already.
#
#   tests/bench/submit.sh PATH-OF-SPARKHA
set -euo pipefail
sparkha=$(realpath "$1")
rounds=${ROUNDS:-5}
work=$(mktemp -d)
SPARK_HOME=$("$sparkha" local fetch 2>/dev/null)
export SPARK_HOME XDG_STATE_HOME=$work/state
namespace=bench-submit
trap 'rm -rf "$work"' EXIT

now() { date +%s%N; }
since() { echo $((($(now) - $1) / 1000000)); }
median() { sort -n | awk '{a[NR]=$1} END {print a[int((NR+1)/2)]}'; }
# told WHERE: from the measured times in $work/WHERE.ours and $work/WHERE.theirs.
told() {
  local ours theirs
  ours=$(median <"$work/$1.ours") theirs=$(median <"$work/$1.theirs")
  awk -v where="$1" -v ours="$ours" -v theirs="$theirs" 'BEGIN { added = (ours - theirs) / 1000
    printf "%-62s %8.2f s (at most 2)%s\n", "sparkha submit beyond spark-submit, " where, added, (added > 2 ? "  TOO MUCH" : "") }'
  echo "  (medians of $rounds: $ours ms and $theirs ms)"
}

cat >"$work/job.py" <<'END'
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
print(spark.sparkContext.parallelize(range(1000), 4).map(lambda x: x * x).sum())
END
ask=(--executor-memory 512m)

# measure WHERE: by turns, so that both meet the same machine.
measure() {
  local began i
  for ((i = 0; i < rounds; i++)); do
    began=$(now)
    theirs >/dev/null 2>"$work/log" || { cat "$work/log"; exit 1; }
    since "$began" >>"$work/$1.theirs"
    began=$(now)
    ours >/dev/null 2>"$work/log" || { cat "$work/log"; exit 1; }
    since "$began" >>"$work/$1.ours"
  done
  told "$1"
}

"$sparkha" create --local --masters 1 --workers 1 >/dev/null 2>&1
trap '"$sparkha" teardown --local --yes >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
theirs() { (eval "$("$sparkha" local env)" && spark-submit --master "$SPARK_MASTER_URL" "${ask[@]}" "$work/job.py"); }
ours() { "$sparkha" submit --local "${ask[@]}" -- "$work/job.py"; }
measure "on this machine"
"$sparkha" teardown --local --yes >/dev/null 2>&1

[ -n "${KUBECONFIG:-}" ] || exit 0
trap '"$sparkha" teardown -n "$namespace" --yes >/dev/null 2>&1 || true
  kubectl delete namespace "$namespace" --ignore-not-found >/dev/null; rm -rf "$work"' EXIT
"$sparkha" create -n "$namespace" --masters 1 --workers 1 >/dev/null 2>&1
kubectl -n "$namespace" get configmap spark-conf -o json | python3 -c '
import json, sys
pod = json.loads(json.load(sys.stdin)["data"]["driver.json"])
pod.update(apiVersion="v1", kind="Pod")
pod["metadata"]["name"] = "beside"
pod["spec"]["containers"][0]["command"] = ["sleep", "infinity"]
print(json.dumps(pod))' | kubectl -n "$namespace" apply -f - >/dev/null
kubectl -n "$namespace" wait --for=condition=Ready pod/beside --timeout=120s >/dev/null
kubectl -n "$namespace" exec -i beside -- bash -c 'cat >/tmp/job.py' <"$work/job.py"
# shellcheck disable=SC2016  # The pod's own variables.
theirs() {
  kubectl -n "$namespace" exec beside -- bash -c '. "$SPARK_CONF_DIR/secret.sh" &&
    /opt/spark/bin/spark-submit --properties-file "$(with_secret spark-defaults.conf)" --master "$SPARKHA_MASTER_URL" \
    --conf "spark.driver.host=$POD_IP" "$@"' bash "${ask[@]}" /tmp/job.py
}
ours() { "$sparkha" submit -n "$namespace" "${ask[@]}" -- "$work/job.py"; }
measure "on Kubernetes"
