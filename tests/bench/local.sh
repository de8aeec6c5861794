#!/bin/bash
# Speed and size of the local platform: creating a cluster side by side with a shell script that starts the very same processes at
# once and polls for the same condition, and with and without the archives of Spark's classes; failover; teardown; the supervisor's memory.
#
#   tests/bench/local.sh PATH-OF-SPARKHA
set -euo pipefail
sparkha=$(realpath "$1")
rounds=${ROUNDS:-5}
HOME_BEFORE=$HOME
work=$(mktemp -d)
SPARK_HOME=$("$sparkha" local fetch 2>/dev/null)
# The archives are beside Spark.
export HOME=$work/home SPARK_HOME XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache}
mkdir "$HOME"
cluster=$HOME/.local/state/sparkha/clusters/default/spark
pods=(spark-zookeeper-{0,1,2} spark-master-{0,1,2} spark-worker-{0,1})
pids=()
end_all() {
  [ ${#pids[@]} -eq 0 ] || kill -9 -- "${pids[@]/#/-}" 2>/dev/null || true
  for pid in "${pids[@]}"; do while kill -0 -- "-$pid" 2>/dev/null; do sleep 0.02; done; done
  pids=()
}
trap 'end_all; "$sparkha" teardown --local --yes >/dev/null 2>&1 || true; HOME=$HOME_BEFORE; rm -rf "$work"' EXIT

now() { date +%s%N; }
since() { echo $((($(now) - $1) / 1000000)); }
median() { sort -n | awk '{a[NR]=$1} END {print a[int((NR+1)/2)]}'; }
# told WHAT VALUE MAX UNIT
told() { awk -v what="$1" -v r="$2" -v max="$3" -v unit="$4" 'BEGIN {
  printf "%-62s %8.2f %s (at most %s)%s\n", what, r, unit, max, (r > max ? "  TOO MUCH" : "") }'; }
process_of() { grep -lz "^HOSTNAME=$1$" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 | while read -r pid; do
  grep -qzF "SPARKHA_CLUSTER_DIR=$cluster" "/proc/$pid/environ" && echo "$pid"
done | head -n 1; }

# The processes as sparkha starts them: their environment, their folders, their addresses.
"$sparkha" create --local >/dev/null 2>&1
for pod in "${pods[@]}"; do
  cp "/proc/$(process_of "$pod")/environ" "$work/$pod.environ"
done
masters_url=spark://$(printf 'spark-master-%s:7077,' 0 1 2 | sed 's/,$//')
zookeepers=$(printf 'spark-zookeeper-%s.spark-zookeeper:2181,' 0 1 2 | sed 's/,$//')
addresses=$(awk '$2 ~ /-(master|zookeeper)-[0-9]+$/ && !seen[$2]++ {print $2 "=" $1}' "$cluster/hosts")
cp -r "$cluster/pods" "$cluster/hosts" "$work"
"$sparkha" teardown --local >/dev/null 2>&1

start() {
  local pod=$1 variables
  shift
  mapfile -d '' variables <"$work/$pod.environ"
  setsid env -i "${variables[@]}" /bin/bash "$cluster/pods/$pod/conf/$1" "${@:2}" >"$work/$pod.log" 2>&1 &
  pids+=($!)
  # Else the shell would tell of its end.
  disown
}
in_service() {
  local name address report alive=0 standby=0 serving=0
  for pair in $addresses; do
    name=${pair%=*} address=${pair#*=}
    case $name in
      *-master-*)
        report=$(curl -s --max-time 1 "http://$address:8080/json/" || true)
        case $report in
          *'"status" : "ALIVE"'* | *'"status":"ALIVE"'*)
            [ "$(grep -o '"state" *: *"ALIVE"' <<<"$report" | wc -l)" = 2 ] && alive=$((alive + 1)) ;;
          *STANDBY*) standby=$((standby + 1)) ;;
        esac ;;
      *) { exec 3<>"/dev/tcp/$address/2181" && printf srvr >&3 && grep -q ^Mode: <&3 && serving=$((serving + 1)); } 2>/dev/null || true ;;
    esac
  done
  [ "$alive$standby$serving" = 123 ]
}
by_script() {
  mkdir -p "$cluster"
  cp -r "$work/pods" "$work/hosts" "$cluster"
  rm -rf "$cluster"/pods/*/data/version-2 "$cluster"/pods/*/work/*
  local began pod
  began=$(now)
  for pod in "${pods[@]}"; do
    case $pod in
      *-worker-*) start "$pod" worker.sh "$masters_url" ;;
      *-master-*) start "$pod" master.sh "$zookeepers" /spark ;;
      *) start "$pod" zookeeper.sh ;;
    esac
  done
  until in_service; do sleep 0.05; done
  since "$began"
  end_all
  rm -rf "$cluster"
}

# The same Spark elsewhere: archives belong to the fetched one.
cp -rs "$SPARK_HOME" "$work/spark"
without_archives() {
  local began
  began=$(now)
  SPARK_HOME=$work/spark "$sparkha" create --local >/dev/null 2>&1
  since "$began"
  "$sparkha" teardown --local >/dev/null 2>&1
}

for ((i = 0; i < rounds; i++)); do
  without_archives >>"$work/without"
  by_script >>"$work/theirs"
  began=$(now)
  "$sparkha" create --local >/dev/null 2>&1
  since "$began" >>"$work/ours"
  supervisor=$(sed 's/.*"pid":\([0-9]*\).*/\1/' "$cluster/supervisor.lock")
  awk '/VmRSS/ {print $2}' "/proc/$supervisor/status" >>"$work/rss"
  old=$("$sparkha" status --local | awk '$1 ~ /-master-/ && $2 == "ALIVE" {print $1}')
  began=$(now)
  kill -9 "$(process_of "$old")"
  until new=$({ "$sparkha" status --local || true; } | awk '$1 ~ /-master-/ && $2 == "ALIVE" {print $1}') &&
    [ -n "$new" ] && [ "$new" != "$old" ]; do sleep 0.02; done
  since "$began" >>"$work/failover"
  began=$(now)
  "$sparkha" teardown --local >/dev/null 2>&1
  since "$began" >>"$work/teardown"
done
told "create --local to registered / a shell script and the same poll" \
  "$(awk -v a="$(median <"$work/ours")" -v b="$(median <"$work/theirs")" 'BEGIN {print a / b}')" 1.15 ""
echo "  (medians of $rounds: $(median <"$work/ours") ms and $(median <"$work/theirs") ms)"
told "create --local with archives of Spark's classes / without" \
  "$(awk -v a="$(median <"$work/ours")" -v b="$(median <"$work/without")" 'BEGIN {print a / b}')" 0.75 ""
echo "  (medians of $rounds: $(median <"$work/ours") ms and $(median <"$work/without") ms)"
told "leader killed to another ALIVE, as status tells" "$(awk -v a="$(median <"$work/failover")" 'BEGIN {print a / 1000}')" 2 s
told "teardown --local" "$(awk -v a="$(median <"$work/teardown")" 'BEGIN {print a / 1000}')" 5 s
told "supervisor, resident" "$(awk -v a="$(median <"$work/rss")" 'BEGIN {print a / 1024}')" 15 MiB
