#!/bin/bash
# The main job, end to end, without Kubernetes: create a highly available cluster of processes on this machine, run a job on it,
# kill the leading master during a second one, and remove everything.
#
#   demo/local.sh PATH-OF-SPARKHA
set -euo pipefail
sparkha=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
cluster=demo
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

title() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
run() {
  printf '$ %s\n' "${*/#"$sparkha"/sparkha}"
  "$@"
}
# The leading master; empty while there is none. (status exits with 9 while anything is not in service.)
leader() { { "$sparkha" status "$cluster" --local || true; } | awk '$1 ~ /-master-/ && $2 == "ALIVE" {print $1}'; }
# The JVM of a pod, by the name that its environment has: other processes of the pod come and go.
process_of() { grep -lz "^HOSTNAME=$1$" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 | while read -r pid; do
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = java ] && grep -qz "^SPARKHA_CLUSTER_DIR=.*/$cluster$" "/proc/$pid/environ" && echo "$pid"
done | head -n 1; }

work=$(mktemp -d)
cleanup() {
  local code=$?
  rm -rf "$work"
  [ "$code" -eq 0 ] || "$sparkha" teardown "$cluster" --local --yes || true
}
trap cleanup EXIT

title "Spark, once for this machine"
run "$sparkha" local fetch

title "A highly available cluster: 3 masters, 3 ZooKeepers, 2 workers"
run "$sparkha" create "$cluster" --local

title "A PySpark job with a shuffle between the workers"
eval "$("$sparkha" local env "$cluster")"
submit=(spark-submit --master "$SPARK_MASTER_URL" --conf spark.executor.memory=600m "$here/job.py")
"${submit[@]}" 3 2>"$work/first.log" || { cat "$work/first.log"; exit 1; }

title "A second job, and the leading master is killed meanwhile"
"${submit[@]}" 20 >"$work/job.out" 2>"$work/second.log" &
job=$!
until grep -qs 'round  2' "$work/job.out"; do
  kill -0 $job 2>/dev/null || { cat "$work/second.log"; exit 1; }
  sleep 0.1
done
grep round "$work/job.out"
old=$(leader)
killed=$(date +%s%N)
run kill -9 "$(process_of "$old")"
until new=$(leader) && [ -n "$new" ] && [ "$new" != "$old" ]; do sleep 0.05; done
printf '%s led, %s leads after %d.%d s\n' "$old" "$new" $((($(date +%s%N) - killed) / 1000000000)) $((($(date +%s%N) - killed) / 100000000 % 10))
wait $job || { cat "$work/second.log"; exit 1; }
tail -n 2 "$work/job.out"

title "The cluster afterwards"
until "$sparkha" status "$cluster" --local >/dev/null; do sleep 0.2; done
run "$sparkha" status "$cluster" --local

title "Everything is removed"
run "$sparkha" teardown "$cluster" --local
run "$sparkha" list -A --local
