#!/bin/bash
# Runs a Spark worker in the foreground; the masters' URL is the argument. This shell stays: it reaps the Python workers that a
# killed executor leaves behind, and when it is asked to leave it lets the worker's executors hand over what they have.
set -eu
export SPARK_PUBLIC_DNS="spark-${POD_IP//[.:]/-}.${POD_NAMESPACE}.${SPARKHA_UI_DOMAIN}"
# A leader that recovers calls the workers that it remembers by their addresses. One that was started anew meanwhile would
# answer for its former self, take itself for registered, and never get work: so each start has another of four ports.
starts=$(cat "$SPARK_WORKER_DIR/starts" 2>/dev/null || true)
# Executors may write there, and the shell would run what stands in a number's place.
[[ $starts =~ ^[0-9]{1,9}$ ]] || starts=0
starts=$((10#$starts))
echo "$((starts + 1))" >"$SPARK_WORKER_DIR/starts"
export SPARK_WORKER_PORT="$((SPARK_WORKER_PORT + starts % 4))"
# listens PID: whether it catches SIGPWR, which kills it otherwise; `state` tells whether it lives. Spark does not catch it while it handles one.
listens() {
  local key value
  state=Z ears=0
  while read -r key value; do
    case $key in
    State:) state=${value%% *} ;;
    SigCgt:) ears=$((16#$value >> 29 & 1)) ;;
    esac
  done 2>/dev/null <"/proc/$1/status" || true
  [ "$ears" = 1 ]
}
# look PID: its living children in `living` (a worker's are executors and drivers), those that listen in `able`. A shell in spark-class stays as a dead one.
look() {
  local file pid
  living=() able=()
  for file in $(grep -ls "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status); do
    file=${file%/status}
    pid=${file#/proc/}
    ! listens "$pid" || able+=("$pid")
    [ "$state" = Z ] || living+=("$pid")
  done
}
# drain WORKER: its executors finish their tasks, move their blocks to others, and end.
#
# They are told first: each tells its driver itself, whoever leads, and the worker stays in ZooKeeper. One that is decommissioned does not: with a leader that
# takes over it registers as a new one, and is told to kill what it runs. So the worker itself is told only when an executor has ended, and the leader would
# start others here, or one does not listen; and again and again, for nobody may lead at the moment.
drain() {
  local worker=$1 deadline=$((SECONDS + SPARKHA_DRAIN_SECONDS)) first=" ${living[*]} " looks itself='' pid busy
  local -A told=() has_work=()
  for pid in "${living[@]}"; do has_work[$pid]=yes; done
  for ((looks = 0; SECONDS < deadline; looks++)); do
    for pid in "${able[@]}"; do
      # Spark takes a second time for a failure.
      [ -n "${told[$pid]:-}" ] || kill -PWR "$pid" 2>/dev/null || true
      told[$pid]=yes has_work[$pid]=yes
    done
    # One that does not listen after 2 s never will, or its driver did not answer.
    if [ " ${living[*]} " != "$first" ] || { [ "$looks" -ge 10 ] && [ ${#able[@]} -lt ${#living[@]} ]; }; then
      itself=${itself:-$looks}
    fi
    if [ -n "$itself" ] && [ $(((looks - itself) % 10)) -eq 0 ] && listens "$worker"; then kill -PWR "$worker" || true; fi
    sleep 0.2
    look "$worker"
    # One that came later and does not listen yet has done nothing.
    busy=
    for pid in "${living[@]}"; do busy+=${has_work[$pid]:-}; done
    [ -n "$busy" ] || break
  done
  # Untold it would fail to start what the leader gives it, until the application counts as failed.
  if [ -z "$itself" ] && listens "$worker"; then
    kill -PWR "$worker" || true
    sleep 0.5
  fi
}
# The pod is to go: scaled down, drained, replaced.
leave() {
  trap '' TERM
  if [ -n "$worker" ]; then
    look "$worker"
    if [ ${#living[@]} -gt 0 ] && grep -q '^spark\.decommission\.enabled=true$' "$SPARK_CONF_DIR/worker.conf"; then
      echo "Asked to leave: the executors have $SPARKHA_DRAIN_SECONDS s to hand over" >&2
      drain "$worker"
    fi
    kill -TERM "$worker" || true
    wait "$worker" || true
  fi
  exit 143
}
worker=
trap leave TERM
. "$SPARK_CONF_DIR/until_led.sh"
# watch WORKER MASTERS: ends one that no leader knows. A worker that has lost its leader asks that one alone, for ten minutes; the new one calls it, unless
# ZooKeeper lost all. What runs here may end first: a new leader would kill it.
watch() {
  local line last
  while sleep 5; do
    kill -0 $$ || return 0
    last=''
    while read -r line; do last=$line; done 2>/dev/null <"$SPARKHA_REGISTRATION" || true
    [[ $last =~ attempt\ #\ ([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 3 ] || continue
    look "$1"
    [ ${#living[@]} -eq 0 ] && is_led "$2" || continue
    echo "a master leads that does not know this worker: it starts anew" >&2
    kill -TERM "$1" 2>/dev/null || true
    return 0
  done
}
# A worker that finds no leader asks again only after 5 to 15 s (Spark's own times). So it is started when there is one, or after 20 s, and
# leaves the processors to the masters until then.
until_led "$1" 20 echo "no master leads yet: the worker starts when one does, or after 20 s" >&2
. "$SPARK_CONF_DIR/secret.sh"
properties=$(with_secret worker.conf)
# log4j2.properties writes here how one worker registers.
export SPARKHA_REGISTRATION="/tmp/registration"
rm -f "$SPARKHA_REGISTRATION"
"${SPARK_HOME:-/opt/spark}/bin/spark-class" org.apache.spark.deploy.worker.Worker \
  --properties-file "$properties" "$1" &
worker=$!
watch "$worker" "$1" &
wait "$worker"
