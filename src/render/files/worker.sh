#!/bin/bash
# Runs a Spark worker in the foreground; the masters' URL is the argument. This shell stays: it reaps the Python workers that a
# killed executor leaves behind, and when it is asked to leave it lets the worker's executors hand over what they have.
set -eu
export SPARK_PUBLIC_DNS="spark-${POD_IP//[.:]/-}.${POD_NAMESPACE}.${SPARKHA_UI_DOMAIN}"
# A leader that recovers calls the workers that it remembers by their addresses. One that was started anew meanwhile would
# answer for its former self, take itself for registered, and never get work: so each start has another of four ports.
starts=$(cat "$SPARK_WORKER_DIR/starts" 2>/dev/null || echo 0)
echo "$((starts + 1))" >"$SPARK_WORKER_DIR/starts"
export SPARK_WORKER_PORT="$((SPARK_WORKER_PORT + starts % 4))"
# Whether a process has living children: a worker's are its executors and drivers. (A shell in spark-class stays as a dead one.)
is_busy() {
  for child in $(grep -ls "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status); do
    # A bare `return` in a trap would return what went before the trap.
    grep -qs '^State:[[:space:]]*[^[:space:]Z]' "$child" && return 0
  done
  return 1
}
# The pod is to go: scaled down, drained, replaced. At SIGPWR the worker tells the leader that it is decommissioned and gets nothing new;
# its executors finish their tasks, move their blocks to others, and end.
leave() {
  trap '' TERM
  worker=${!:-}
  if [ -n "$worker" ]; then
    if is_busy "$worker" && grep -q '^spark\.decommission\.enabled=true$' "$SPARK_CONF_DIR/worker.conf"; then
      echo "Asked to leave: the executors have $SPARKHA_DRAIN_SECONDS s to hand over" >&2
      kill -PWR "$worker" || true
      deadline=$((SECONDS + SPARKHA_DRAIN_SECONDS))
      while [ "$SECONDS" -lt "$deadline" ] && is_busy "$worker"; do sleep 0.5; done
    fi
    kill -TERM "$worker" || true
    wait "$worker" || true
  fi
  exit 143
}
trap leave TERM
# Whoever finds no leader asks again after 5 to 15 s only (Spark's own times): so the worker is not started before there is one, for
# 20 s at most, and leaves the processors to those who are.
until_led() {
  local deadline=$((SECONDS + 20)) masters=${1#spark://} master told=
  while [ "$SECONDS" -lt "$deadline" ]; do
    for master in ${masters//,/ }; do
      ! timeout 2 /bin/bash "$SPARK_CONF_DIR/leads.sh" "${master%:*}" 8080 2>/dev/null || return 0
    done
    [ -n "$told" ] || echo "no master leads yet: the worker starts when one does, or after 20 s" >&2
    told=yes
    sleep 0.5
  done
}
until_led "$1"
. "$SPARK_CONF_DIR/secret.sh"
properties=$(with_secret worker.conf)
"${SPARK_HOME:-/opt/spark}/bin/spark-class" org.apache.spark.deploy.worker.Worker \
  --properties-file "$properties" "$1" &
wait "$!"
