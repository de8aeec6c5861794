#!/bin/bash
# What a scale-down costs a job that runs through it. Both runs have the same two executors' cores from beginning to end: an
# application of two cores on two workers of two cores each, of which one is taken away in the middle in every second run; its executor's
# place is then on the other. So the ratio is what leaving costs, and neither hides behind a larger cluster nor
# suffers from a smaller one. The tasks sleep: the machine's own load should not decide.
#
#   tests/bench/scale.sh PATH-OF-SPARKHA
set -euo pipefail
sparkha=$(realpath "$1")
rounds=${ROUNDS:-3}
HOME_BEFORE=$HOME
work=$(mktemp -d)
SPARK_HOME=$("$sparkha" local fetch 2>/dev/null)
export HOME=$work/home SPARK_HOME
mkdir "$HOME"
trap '"$sparkha" teardown --local --yes >/dev/null 2>&1 || true; HOME=$HOME_BEFORE; rm -rf "$work"' EXIT
median() { sort -n | awk '{a[NR]=$1} END {print a[int((NR+1)/2)]}'; }

cat >"$work/job.py" <<'JOB'
import sys, time
from pyspark.sql import SparkSession
sc = SparkSession.builder.appName("bench").getOrCreate().sparkContext
ran = sc.accumulator(0)
def slow(part):
    ran.add(1)
    time.sleep(1)
    for x in part:
        yield x % 100, x
def wait(part):
    time.sleep(1)
    yield from part
sc.parallelize(range(2), 2).count()
began = time.time()
pairs = sc.parallelize(range(20000), 20).mapPartitions(slow).reduceByKey(lambda a, b: a + b, 20)
pairs.count()
open(sys.argv[1], "w").close()
for _ in range(3):
    pairs.mapPartitions(wait).count()
print("SECONDS %.2f RAN %d" % (time.time() - began, ran.value), flush=True)
JOB

# job WORKERS-IN-THE-END: its seconds.
job() {
  "$sparkha" create --local --masters 1 --workers 2 --worker-cores 2 --worker-memory 2Gi >/dev/null 2>&1
  eval "$("$sparkha" local env)"
  rm -f "$work/mapped"
  spark-submit --master "$SPARK_MASTER_URL" --conf spark.cores.max=2 --conf spark.executor.cores=1 \
    --conf spark.executor.memory=600m "$work/job.py" "$work/mapped" >"$work/out" 2>"$work/err" &
  local submit=$!
  until [ -e "$work/mapped" ] || ! kill -0 "$submit" 2>/dev/null; do sleep 0.1; done
  "$sparkha" scale --local --workers "$1" >/dev/null 2>"$work/scale"
  wait "$submit" || { tail -n 20 "$work/err" >&2; return 1; }
  grep -q 'RAN 20$' "$work/out" || { echo "map tasks ran again: $(cat "$work/out")" >&2; return 1; }
  sed -n 's/^SECONDS \([0-9.]*\) .*/\1/p' "$work/out"
}
for ((i = 0; i < rounds; i++)); do
  job 2 >>"$work/unscaled"
  job 1 >>"$work/scaled"
done
awk -v a="$(median <"$work/scaled")" -v b="$(median <"$work/unscaled")" 'BEGIN {
  printf "%-62s %8.2f (at most 1.10)%s\n", "a job through a scale-down / the same job unscaled", a / b, (a / b > 1.1 ? "  TOO MUCH" : "")
  printf "  (medians: %.1f s and %.1f s)\n", a, b }'
