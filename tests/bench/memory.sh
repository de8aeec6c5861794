#!/bin/bash
# PySpark jobs that use all the memory that their executors may have, under limits that the kernel enforces (control groups, so as root): none
# may be killed. Counted are the kernel's kills in the workers' control groups.
#
#   TRIALS=20 tests/bench/memory.sh PATH-OF-SPARKHA
#   BEFORE=yes …     what it was like: heaps that fill what is left by a fifth of the pod, and Python workers that spill at Spark's 512 MiB
. "$(dirname "$0")/setup.sh"
trials=${TRIALS:-20}
memory=${MEMORY:-3Gi} cores=${CORES:-2}
cat >"$work/sparkha.yaml" <<END
masters: {count: 1}
defaultCores: all
workers: {count: 1, cores: $cores, memory: $memory}
${BEFORE:+sparkConf: {spark.executor.cores: 1, spark.executor.memory: 1050m, spark.executor.memoryOverhead: 308m, spark.python.worker.memory: 512m\}}
END
"$sparkha" create --local -f "$work/sparkha.yaml" >/dev/null 2>"$work/create" || { cat "$work/create" >&2; exit 1; }
eval "$("$sparkha" local env)"
defaults="$cluster/drivers/spark-defaults.conf"
property() { sed -n "s/^$1=//p" "$defaults"; }
heap=$(property spark.executor.memory)
python=$(property spark.python.worker.memory)
executors=$((cores / $(property spark.executor.cores)))
# Python workers look at what they hold only now and then, so this much may be there.
hold=${HOLD:-$((2 * ${python%m}))}
[ -z "${BEFORE:-}" ] || hold=128
mark=$(python3 -c 'import json, sys
print("-".join(json.load(open(sys.argv[1]))["pods"][0]["mark"].split("-")[:2]))' "$cluster/seen.json")
# killed: how many processes the kernel has killed for their memory, by control groups of either version.
killed() {
  find /sys/fs/cgroup -type d -name "$mark-*" -exec cat {}/memory.oom_control {}/memory.events ';' 2>/dev/null |
    awk '/^oom_kill / {sum += $2} END {print sum + 0}'
}
echo "worker of $cores cores and $memory; heaps of $heap, Python workers hold $hold MiB each"
failed=0
for ((i = 1; i <= trials; i++)); do
  before=$(killed)
  if timeout 300 "$SPARK_HOME/bin/spark-submit" --master "$SPARK_MASTER_URL" --driver-memory 512m \
    --conf "spark.executor.extraJavaOptions=-Xms$heap -XX:+AlwaysPreTouch" \
    "$here/memory.py" "$hold" "$cores" >"$work/out" 2>"$work/err"; then
    said=$(grep RESULT "$work/out")
  else
    said="FAILED: $(grep -m 1 -oE '(exitStatus|ExecutorLostFailure|Python worker exited|Worker lost).{0,80}' "$work/err" || tail -n 1 "$work/err")"
  fi
  after=$(killed)
  echo "$i: $said; killed by the kernel: $((after - before))"
  # Both executors, to the end.
  [[ $said == "RESULT $executors executors" && $after -eq $before ]] || failed=$((failed + 1))
done
printf '%-62s %8d of %d (0)%s\n' "jobs at the memory limit with a kill or without a result" "$failed" "$trials" "$([ "$failed" -eq 0 ] || echo '  TOO MUCH')"
