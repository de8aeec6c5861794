#!/bin/bash
# The main job, end to end, on the Kubernetes cluster of KUBECONFIG: create a highly available cluster, run a job on it, kill
# the leading master meanwhile, and remove everything.
#
#   demo/kubernetes.sh PATH-OF-SPARKHA
set -euo pipefail
sparkha=$(realpath "$1")
namespace=sparkha-demo
here=$(cd "$(dirname "$0")" && pwd)

title() { printf '\n\033[1m== %s\033[0m\n' "$*" | if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }
run() {
  printf '$ %s\n' "${*/#"$sparkha"/sparkha}"
  "$@"
}
# The leading master's pod; empty while there is none. (status exits with 9 while anything is not in service.)
leader() { { "$sparkha" status --namespace "$namespace" || true; } | awk '$1 ~ /-master-/ && $2 == "ALIVE" {print $1}'; }

cleanup() {
  local code=$?
  [ "$code" -eq 0 ] || "$sparkha" teardown --namespace "$namespace" --yes || true
}
trap cleanup EXIT

title "A highly available cluster: 3 masters, 3 ZooKeepers, 2 workers"
run "$sparkha" create --namespace "$namespace"

title "A PySpark job with a shuffle across both workers"
kubectl --namespace "$namespace" create configmap job --from-file="$here/job.py" >/dev/null
kubectl --namespace "$namespace" apply -f "$here/driver.yaml" >/dev/null
until kubectl --namespace "$namespace" logs driver 2>/dev/null | grep -q 'round  2'; do sleep 0.5; done
kubectl --namespace "$namespace" logs driver | grep round

title "The leading master is killed while the job runs"
old=$(leader)
killed=$(date +%s%N)
run kubectl --namespace "$namespace" delete pod "$old" --grace-period=0 --force 2>/dev/null
until new=$(leader) && [ -n "$new" ] && [ "$new" != "$old" ]; do sleep 0.1; done
printf '%s leads after %d.%d s\n' "$new" $((($(date +%s%N) - killed) / 1000000000)) $((($(date +%s%N) - killed) / 100000000 % 10))

title "The job goes on, and ends well"
until kubectl --namespace "$namespace" get pod driver -o 'jsonpath={.status.phase}' | grep -Eq 'Succeeded|Failed'; do sleep 0.5; done
kubectl --namespace "$namespace" logs driver | grep -E 'round|RESULT' | tail -n 3
[ "$(kubectl --namespace "$namespace" get pod driver -o 'jsonpath={.status.phase}')" = Succeeded ]

title "The cluster afterwards"
until "$sparkha" status --namespace "$namespace" >/dev/null; do sleep 1; done
run "$sparkha" status --namespace "$namespace"

title "Everything is removed"
kubectl --namespace "$namespace" delete pod/driver configmap/job --grace-period=0 --force >/dev/null 2>&1
run "$sparkha" teardown --namespace "$namespace"
run "$sparkha" list -A
