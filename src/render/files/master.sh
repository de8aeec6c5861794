#!/bin/bash
# Starts a Spark master in the foreground. Whatever it exits with, the kubelet starts it again (a master whose leadership was
# revoked exits with 0).
#
#   master.sh [ZOOKEEPERS ZNODE]
#
# This shell outlives the JVM. With ZooKeeper (HOST:PORT,… and the masters' znode) it withdraws it from the election once it has surely
# died, or the others would wait until its session expires. Never before: a leader does not notice that its latch has gone, and there
# would be two.
#
# And it starts a master anew whose recovery went wrong. A worker that asks a recovering leader to register it counts as recovered, though
# it has not told yet what runs there. Where it was the last to be waited for, Spark's leader starts executors that run already, and
# takes their cores for used for ever. What such a worker tells comes after the recovery then: so it is seen, and the next recovery knows.
set -eu
export SPARK_PUBLIC_DNS="spark-${POD_IP//[.:]/-}.${POD_NAMESPACE}.${SPARKHA_UI_DOMAIN}"
. "$SPARK_CONF_DIR/secret.sh"
properties=$(with_secret master.conf)
master=("${SPARK_HOME:-/opt/spark}/bin/spark-class" org.apache.spark.deploy.master.Master
  --properties-file "$properties")

login=
if [ $# -eq 2 ]; then
  # It has nothing to save, and whoever waits for the next one has no time to lose.
  ending=KILL
  login=$(zookeeper_login)
else
  # It may be writing to its recovery directory.
  ending=TERM
fi
# ZooKeeper's client takes itself for one under FIPS rules, which forbid DIGEST-MD5, unless it is told otherwise.
[ -z "$login" ] || export SPARK_DAEMON_JAVA_OPTS="$SPARK_DAEMON_JAVA_OPTS -Dzookeeper.fips-mode=false \"-Djava.security.auth.login.config=$login\""

# To these files the JVM's log4j2.properties write what sessions it has had, and how its recovery goes; they last as long as the pod.
export SPARKHA_SESSIONS="/tmp/zookeeper-sessions" SPARKHA_RECOVERY="/tmp/recovery"

# at_any SERVERS SCRIPT ARGUMENTS…: runs a script for all servers at once, for some may be gone; the first that has done it is enough.
at_any() {
  local servers=${1//,/ } script=$2 server told
  shift 2
  read -r told < <(for server in $servers; do
    timeout 2 /bin/bash "$SPARK_CONF_DIR/$script" "$server" "$@" 2>/dev/null &
  done) && echo "$told"
}
# withdraw SECONDS SERVERS ZNODE: tried for so long. A single master has no sessions.
withdraw() {
  local deadline=$((SECONDS + $1))
  [ -s "$SPARKHA_SESSIONS" ] || return 0
  until at_any "$2" withdraw.sh "$3/leader_election" "$SPARKHA_SESSIONS"; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "no ZooKeeper server answers: the master's session is left to the next start, or to expire"
      return
    fi
    sleep 0.1
  done
  rm -f "$SPARKHA_SESSIONS"
}
# protect SERVERS ZNODE: as soon as there is a quorum. What is another user's stays so: there it is tried once a minute only.
protect() {
  local seconds
  for ((seconds = 0; ; seconds++)); do
    kill -0 $$ || return 0
    if [ $seconds -lt 30 ] || [ $((seconds % 60)) -eq 0 ]; then
      ! at_any "$1" protect.sh "$2" || return 0
    fi
    [ $seconds -ne 30 ] ||
      echo "znodes below $2 are not protected yet: either no ZooKeeper server answers, or they are another user's"
    sleep 1
  done
}

# Whether a worker told what runs there only when the recovery was complete.
is_amiss() {
  local line complete=
  [ -e "$SPARKHA_RECOVERY" ] || return 1
  while read -r line; do
    case $line in
    "Recovery complete"*) complete=yes ;;
    *) [ -z "$complete" ] || return 0 ;;
    esac
  done <"$SPARKHA_RECOVERY"
  return 1
}
# watch_recovery PID: ends a master whose recovery went wrong.
watch_recovery() {
  until is_amiss; do
    kill -0 $$ || return 0
    sleep 1
  done
  echo "a worker told what runs there after the recovery: the master starts anew, or it would take cores for used that are free"
  kill "-$ending" "$1" 2>/dev/null || true
}

stop() {
  stopped=yes
  [ -z "$pid" ] || kill "-$ending" "$pid" 2>/dev/null || true
}
pid='' stopped=''
trap stop TERM INT
# What a container before this one had no time to withdraw.
withdraw 0 "$@"
[ -z "$stopped" ] || exit 0
# Beside the master, which may start before there is a quorum.
[ -z "$login" ] || protect "$@" &
# A machine so busy that no recovery goes well is not helped by more of them.
for again in yes yes ''; do
  rm -f "$SPARKHA_RECOVERY"
  "${master[@]}" &
  pid=$!
  [ -z "$stopped" ] || stop
  watcher=
  if [ -n "$again" ]; then
    watch_recovery "$pid" &
    watcher=$!
  fi
  # A signal ends the waiting, too.
  while
    code=0
    wait "$pid" 2>/dev/null || code=$?
    kill -0 "$pid" 2>/dev/null
  do :; done
  [ -z "$watcher" ] || kill "$watcher" 2>/dev/null || true
  # ZooKeeper may have to elect a leader of its own first: it was a lost server, maybe, that ended the master.
  withdraw 5 "$@"
  [ -z "$stopped" ] && [ -n "$again" ] && is_amiss || exit "$code"
done
