#!/bin/bash
# Speed and size, as ratios measured side by side in one run on the cluster of KUBECONFIG.
#
#   tests/bench/kubernetes.sh PATH-OF-SPARKHA
set -euo pipefail
sparkha=$(realpath "$1")
work=$(mktemp -d)
trap 'kubectl delete namespace bench-a bench-b --ignore-not-found --wait=false >/dev/null 2>&1; rm -rf "$work"' EXIT
rounds=${ROUNDS:-5}

now() { date +%s%N; }
# median of the numbers on standard input
median() { sort -n | awk '{a[NR]=$1} END {print a[int((NR+1)/2)]}'; }
ratio() { awk -v a="$1" -v b="$2" -v max="$3" -v what="$4" 'BEGIN {
  r = a / b; printf "%-58s %8.3f  (at most %s)%s\n", what, r, max, (r > max ? "  TOO MUCH" : "") }'; }
# ms COMMAND…: how long it takes, in ms
ms() {
  local start
  start=$(now)
  "$@" >/dev/null 2>&1
  echo $((($(now) - start) / 1000000))
}
# A namespace without anything of the round before; its pods need no time to say goodbye.
fresh() {
  kubectl --namespace "$1" delete statefulsets --all --cascade=orphan >/dev/null 2>&1 || true
  kubectl --namespace "$1" delete pods --all --grace-period=0 --force >/dev/null 2>&1 || true
  kubectl delete namespace "$1" --ignore-not-found >/dev/null 2>&1 && kubectl create namespace "$1" >/dev/null
}

# Its Secret is filled in as docs/quick-start.md shows.
"$sparkha" render | sed "s/REPLACE-ME/$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')/" >"$work/all.yaml"
# Only what this server serves, for kubectl stops at a kind that it does not know.
kubectl api-versions | grep -qx policy/v1 || python3 - "$work/all.yaml" <<'PY'
import sys
path = sys.argv[1]
documents = open(path).read().split("---\n")
open(path, "w").write("---\n".join(d for d in documents if "kind: PodDisruptionBudget" not in d))
PY
printf 'resources: [all.yaml]\n' >"$work/kustomization.yaml"

for ((i = 0; i < rounds; i++)); do
  fresh bench-a; ms "$sparkha" create --namespace bench-a --no-wait >>"$work/ours"
  fresh bench-b; ms kubectl --namespace bench-b apply --server-side -f "$work/all.yaml" >>"$work/theirs"
  ms "$sparkha" render >>"$work/render"
  ms kubectl kustomize "$work" >>"$work/kustomize"
done
ratio "$(median <"$work/ours")" "$(median <"$work/theirs")" 0.5 "create --no-wait / kubectl apply --server-side"
ratio "$(median <"$work/render")" "$(median <"$work/kustomize")" 0.1 "render / kubectl kustomize"
kubectl delete namespace bench-a bench-b >/dev/null

# kubectl and the tightest poll of the same condition: the pods' own addresses, asked without pause.
poll() {
  local ips ip alive standby
  kubectl --namespace bench-b apply --server-side -f "$work/all.yaml" >/dev/null
  while true; do
    ips=$(kubectl --namespace bench-b get pods -l app.kubernetes.io/component=master -o 'jsonpath={.items[*].status.podIP}')
    alive=0 standby=0
    for ip in $ips; do
      report=$(curl -s --max-time 1 "http://$ip:8080/json/" || true)
      case $report in
        *'"status" : "ALIVE"'* | *'"status":"ALIVE"'*)
          [ "$(grep -o '"state" *: *"ALIVE"' <<<"$report" | wc -l)" = 2 ] && alive=$((alive + 1)) ;;
        *STANDBY*) standby=$((standby + 1)) ;;
      esac
    done
    [ "$alive" = 1 ] && [ "$standby" = 2 ] && return
    sleep 0.05
  done
}
for ((i = 0; i < ${WAIT_ROUNDS:-3}; i++)); do
  fresh bench-a; ms "$sparkha" create --namespace bench-a >>"$work/created"; kubectl delete namespace bench-a >/dev/null
  fresh bench-b; ms poll >>"$work/polled"; kubectl delete namespace bench-b >/dev/null
done
ratio "$(median <"$work/created")" "$(median <"$work/polled")" 1.1 "create to registered / kubectl apply and tight poll"

# clusters COUNT: their ConfigMaps, and pods that no scheduler looks at: a list tells of what the API server knows.
clusters() {
  fresh bench-a
  for ((n = 0; n < $1; n++)); do
    "$sparkha" render "c$n" | awk -v RS='---\n' '/kind: ConfigMap/ {print "---"; printf "%s", $0}'
    for part in master-{0..2} zookeeper-{0..2} worker-{0..1}; do
      printf -- '---\napiVersion: v1\nkind: Pod\nmetadata: {name: c%s-%s, labels: {app.kubernetes.io/managed-by: sparkha, %s}}\n' "$n" "$part" \
        "app.kubernetes.io/instance: c$n, app.kubernetes.io/component: ${part%-*}"
      printf 'spec: {schedulerName: nobody, containers: [{name: spark, image: none}]}\n'
    done
  done | kubectl --namespace bench-a create -f - >/dev/null
  rm -f "$work/listed"
  for ((n = 0; n < rounds; n++)); do ms "$sparkha" list --namespace bench-a >>"$work/listed"; done
  [ "$("$sparkha" list --namespace bench-a -o name | wc -l)" = "$1" ]
  printf '%-58s %8d ms, %d requests%s\n' "$1 clusters listed" "$(median <"$work/listed")" \
    "$("$sparkha" list --namespace bench-a -vv 2>&1 >/dev/null | grep -c '^DEBUG request')" "$2"
}
clusters 10 ""
clusters 100 "  (at most 1000 ms, and as many for 100 as for 10)"

fresh bench-a
python3 - "$sparkha" "$(grep -c '^kind:' "$work/all.yaml")" <<'PY'
import os, resource, subprocess, sys
run = subprocess.run([sys.argv[1], "create", "--namespace", "bench-a", "-v"], capture_output=True, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
requests = next(line for line in run.stderr.splitlines() if "requests to the API server" in line)
print(f"peak memory of create: {peak:.1f} MiB (at most 30)")
print(f"requests of create, watches included: {requests.split()[1]} for {sys.argv[2]} objects (at most 3 each beside watches)")
print(f"binary: {os.path.getsize(sys.argv[1]) / 2**20:.1f} MiB (at most 15)")
PY
