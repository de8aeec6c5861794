#!/bin/bash
# Runs a Spark worker in the foreground. This shell stays the parent process: it reaps the Python workers that a killed executor leaves
# behind, and at SIGTERM it decommissions the worker's executors.
#
#   worker.sh MASTERS    spark://HOST:PORT,…
set -eu
export SPARK_PUBLIC_DNS="spark-${POD_IP//[.:]/-}.${POD_NAMESPACE}.${SPARKHA_UI_DOMAIN}"
# A recovering leader calls the workers that it remembers at their addresses. A worker that has restarted since would answer in place of
# the old one, consider itself registered, and never get work. So each start uses the next of four ports.
starts=$(cat "$SPARK_WORKER_DIR/starts" 2>/dev/null || true)
# Executors can write to this file, and the shell would evaluate an expression that it finds in place of a number.
[[ $starts =~ ^[0-9]{1,9}$ ]] || starts=0
starts=$((10#$starts))
echo "$((starts + 1))" >"$SPARK_WORKER_DIR/starts"
export SPARK_WORKER_PORT="$((SPARK_WORKER_PORT + starts % 4))"
# catches_sigpwr PID: succeeds if the process catches SIGPWR, which otherwise kills it, and sets `state` (Z: dead). Spark does not catch
# SIGPWR while it handles one.
catches_sigpwr() {
  local key value
  state=Z caught=0
  while read -r key value; do
    case $key in
    State:) state=${value%% *} ;;
    SigCgt:) caught=$((16#$value >> 29 & 1)) ;;
    esac
  done 2>/dev/null <"/proc/$1/status" || true
  [ "$caught" = 1 ]
}
# find_children PID: sets `living` to the living children (of a worker: executors and drivers), and `catching` to those that catch SIGPWR.
# A shell in spark-class stays as a dead child.
find_children() {
  local file pid
  living=() catching=()
  for file in $(grep -ls "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status); do
    file=${file%/status}
    pid=${file#/proc/}
    ! catches_sigpwr "$pid" || catching+=("$pid")
    [ "$state" = Z ] || living+=("$pid")
  done
}
# drain WORKER: decommissions the executors, which finish their tasks, move their blocks to other executors, and end.
#
# The executors get SIGPWR first: each notifies its driver itself, independently of the leader, and the worker keeps its znode. A worker
# that gets SIGPWR loses its znode: a new leader registers it as a new worker and has its executors killed. So the worker gets SIGPWR
# only when an executor has ended, because the leader would launch others here, or when one does not catch SIGPWR. The signal is repeated,
# because there may be no leader at the moment.
drain() {
  local worker=$1 deadline=$((SECONDS + SPARKHA_DRAIN_SECONDS)) first=" ${living[*]} " rounds worker_since='' pid busy
  local -A signalled=() has_work=()
  for pid in "${living[@]}"; do has_work[$pid]=yes; done
  for ((rounds = 0; SECONDS < deadline; rounds++)); do
    for pid in "${catching[@]}"; do
      # Spark treats a second SIGPWR as a failed decommission.
      [ -n "${signalled[$pid]:-}" ] || kill -PWR "$pid" 2>/dev/null || true
      signalled[$pid]=yes has_work[$pid]=yes
    done
    # An executor that does not catch SIGPWR after 2 s never will, or its driver did not answer.
    if [ " ${living[*]} " != "$first" ] || { [ "$rounds" -ge 10 ] && [ ${#catching[@]} -lt ${#living[@]} ]; }; then
      worker_since=${worker_since:-$rounds}
    fi
    if [ -n "$worker_since" ] && [ $(((rounds - worker_since) % 10)) -eq 0 ] && catches_sigpwr "$worker"; then
      kill -PWR "$worker" || true
    fi
    sleep 0.2
    find_children "$worker"
    # An executor that started later and does not catch SIGPWR yet has done no work.
    busy=
    for pid in "${living[@]}"; do busy+=${has_work[$pid]:-}; done
    [ -n "$busy" ] || break
  done
  # Without a SIGPWR the worker would fail to launch the executors that the leader assigns, until Spark fails the application.
  if [ -z "$worker_since" ] && catches_sigpwr "$worker"; then
    kill -PWR "$worker" || true
    sleep 0.5
  fi
}
# The pod is to end: scale-down, drain or replacement.
terminate() {
  trap '' TERM
  if [ -n "$worker" ]; then
    find_children "$worker"
    if [ ${#living[@]} -gt 0 ] && grep -q '^spark\.decommission\.enabled=true$' "$SPARK_CONF_DIR/worker.conf"; then
      echo "decommissioning the worker's executors, for up to $SPARKHA_DRAIN_SECONDS s" >&2
      drain "$worker"
    fi
    kill -TERM "$worker" || true
    wait "$worker" || true
  fi
  exit 143
}
worker=
trap terminate TERM
. "$SPARK_CONF_DIR/until_led.sh"
# watch WORKER MASTERS: ends a worker that the leader does not know. A worker that loses its leader tries to register with that one only,
# for ten minutes. A new leader calls it, unless ZooKeeper lost all data. The watch waits until the executors here have ended, because a
# new leader would kill them.
watch() {
  local line last
  while sleep 5; do
    kill -0 $$ || return 0
    last=''
    while read -r line; do last=$line; done 2>/dev/null <"$SPARKHA_REGISTRATION" || true
    [[ $last =~ attempt\ #\ ([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 3 ] || continue
    find_children "$1"
    [ ${#living[@]} -eq 0 ] && is_led "$2" || continue
    echo "the leader does not know this worker: restarting the worker" >&2
    kill -TERM "$1" 2>/dev/null || true
    return 0
  done
}
# A worker that finds no leader tries again only after 5 to 15 s (fixed in Spark). So it starts when a master leads, or after 20 s, and
# leaves the processors to the masters until then.
until_led "$1" 20 echo "no master leads yet: the worker starts when one does, or after 20 s" >&2
. "$SPARK_CONF_DIR/secret.sh"
properties=$(with_secret worker.conf)
# log4j2.properties makes the worker log the steps of its registration here. Each start has a new file.
export SPARKHA_REGISTRATION="/tmp/registration"
rm -f "$SPARKHA_REGISTRATION"
"${SPARK_HOME:-/opt/spark}/bin/spark-class" org.apache.spark.deploy.worker.Worker \
  --properties-file "$properties" "$1" &
worker=$!
watch "$worker" "$1" &
wait "$worker"
