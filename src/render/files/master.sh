#!/bin/bash
# Starts a Spark master in the foreground. The kubelet starts it again, whatever its exit code.
#
#   master.sh [ZOOKEEPERS ZNODE]
#
# This shell outlives the JVM. With ZooKeeper (HOST:PORT,… and the masters' znode) it withdraws it from the election once it acts no more,
# or the others would wait until its session expires. Never before: a leader does not notice that its latch is gone, and there
# would be two.
#
# Workers must not ask a recovering leader to register them. When one loses its leader, it asks all masters at once. A master that was elected a moment ago then counts
# the worker as recovered, compares what runs there with what it does not know yet, and has it killed. So a leader that is asked to end is stopped first: its
# connections stay until the next leader has called the workers. Where the JVM is dead, the workers have lost it, and the election waits until they were answered.
#
# And it starts a master anew whose recovery went wrong. A worker that asks a recovering leader to register it counts as recovered, though
# it has not told yet what runs there. Where it was the last to be waited for, Spark's leader starts executors that run already, and
# takes their cores for used for ever. What such a worker tells comes after the recovery then: so it is seen, and the next recovery knows.
# Nor does it forget an executor that ends in the recovery before its application's driver has answered: that application gets none in its place.
# One that is elected and cannot read its state, because ZooKeeper lost all, is started anew, too: it would hold its latch and stand by for ever.
#
# And it kills a master that was paused for longer than its session lives. Another one leads then, and the first thing that a master does which wakes may be to
# tell drivers that it has not heard of their workers for a minute, and to delete these in ZooKeeper.
#
# A master that lost its leadership, or was paused, has done nothing wrong: another is started in its place at once. The kubelet would let it wait, each time
# for longer and at last for five minutes, and after some losses nobody would be left to lead.
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

# To these files the JVM's log4j2.properties write what sessions it has had, how its election and its recovery go; they last as long as the pod.
export SPARKHA_SESSIONS="/tmp/zookeeper-sessions" SPARKHA_RECOVERY="/tmp/recovery" SPARKHA_ELECTION="/tmp/election"

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
# leads: whether it was elected.
leads() {
  [ -e "$SPARKHA_ELECTION" ] && [[ $(<"$SPARKHA_ELECTION") == *"We have gained leadership"* ]]
}
# is_connected: whether workers or drivers are connected. All local masters share one table of connections, so it is looked for by address.
is_connected() {
  local address=[0-9A-F]* bytes
  if [[ $POD_IP != *:* ]]; then
    IFS=. read -ra bytes <<<"$POD_IP"
    printf -v address '[0-9A-F]*%02X%02X%02X%02X' "${bytes[3]}" "${bytes[2]}" "${bytes[1]}" "${bytes[0]}"
  fi
  # Port 7077, established.
  grep -qs "^ *[0-9]*: $address:1BA5 [0-9A-F:]* 01 " /proc/net/tcp /proc/net/tcp6
}
# hand_over PID SERVERS ZNODE: ends a leader without its workers' notice.
hand_over() {
  kill -STOP "$1" 2>/dev/null || return 0
  withdraw 2 "${@:2}"
  # The next leader is elected in well under a second and calls the workers; longer on a busy machine.
  sleep 3
  kill -KILL "$1" 2>/dev/null || true
}
# end PID [SERVERS ZNODE]
end() {
  if [ $# -eq 3 ] && leads && is_connected; then
    hand_over "$@"
  else
    kill "-$ending" "$1" 2>/dev/null || true
  fi
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

# is_amiss: whether a worker told what runs there only when the recovery was complete, or an executor ended before the driver of its application had
# answered. A leader that found nothing stored recovers nothing. Reads on from where it was: `answered` are the applications of which it has read that.
is_amiss() {
  local line
  if [ -z "$recovery" ]; then
    [ -e "$SPARKHA_RECOVERY" ] || return 1
    exec {recovery}<"$SPARKHA_RECOVERY"
  fi
  if [ -z "$complete" ] && [ -e "$SPARKHA_ELECTION" ] && [[ $(<"$SPARKHA_ELECTION") == *"New state: ALIVE"* ]]; then
    complete=yes
  fi
  while [ -z "$amiss" ] && read -r line; do
    case $line in
    "Recovery complete"*) complete=yes ;;
    "Worker has been re-registered"*) amiss=$complete ;;
    "Application has been re-registered: "*) answered+="${line##*: } " ;;
    "Removing executor "*)
      line=${line#Removing executor }
      [ -n "$complete" ] || [[ $answered == *" ${line%%/*} "* ]] || amiss=yes
      ;;
    esac
  done <&"$recovery"
  [ -n "$amiss" ]
}
# Whether it was elected, and failed before it led.
is_stuck() {
  local line elected=
  [ -e "$SPARKHA_ELECTION" ] || return 1
  while read -r line; do
    case $line in
    "We have gained leadership"*) elected=yes ;;
    "I have been elected leader"*) elected= ;;
    *) [ -z "$elected" ] || return 0 ;;
    esac
  done <"$SPARKHA_ELECTION"
  return 1
}
# now: hundredths of a second, in `now`, from a clock that goes on while the machine sleeps and that nobody sets. No process is started.
now() {
  read -r now _ </proc/uptime
  now=$((10#${now/./}))
}
seconds() { printf '%d.%02d' "$(($1 / 100))" "$(($1 % 100))"; }
# session: how long the JVM's present session lives, in hundredths of a second, in `session`; empty if it has had none.
session() {
  local line
  session=''
  [ -s "$SPARKHA_SESSIONS" ] || return 0
  while read -r line; do
    [[ ! $line =~ negotiated\ timeout\ =\ ([0-9]+) ]] || session=$((BASH_REMATCH[1] / 10))
  done <"$SPARKHA_SESSIONS"
}
# kill_and_tell PID WHY: ends the watch, too. It is told even though this shell is not needed once the master is gone.
kill_and_tell() {
  trap '' TERM
  kill -KILL "$1" 2>/dev/null || true
  echo "$2"
  exit "$paused"
}
# watch AGAIN PID [SERVERS ZNODE]: kills a master that was paused, and exits with `paused`; ends one whose election or recovery went wrong, if it is to be started again.
watch() {
  local again=$1 pid=$2 now last stat stopped='' session='' looks never
  exec {never}<> <(:)
  # In this mode bash waits by an alarm, which is due as soon as all wake. Else it may wait by select(), which the kernel then goes on with for
  # the time that was left: a tenth of a second in which the master acts.
  set -o posix
  now
  for ((looks = 0; ; looks++)); do
    last=$now
    # A fifth of a second: nothing ever comes.
    read -rt 0.2 -u "$never" || true
    now
    # All were paused, and wake together: it must be gone before it acts.
    if [ -n "$session" ] && [ $((now - last)) -ge "$session" ]; then
      kill_and_tell "$pid" "this pod was paused for $(seconds $((now - last))) s, and the master's session lives for $(seconds "$session") s: the master was killed"
    fi
    read -r stat 2>/dev/null <"/proc/$pid/stat" || return 0
    case ${stat##*) } in
    [Tt]*)
      stopped=${stopped:-$last}
      # After two thirds of its session its own client gives it up, and it ends.
      if [ -n "$session" ] && [ $((now - stopped)) -ge $((session * 2 / 3)) ]; then
        kill_and_tell "$pid" "the master was stopped for $(seconds $((now - stopped))) s, and its session lives for $(seconds "$session") s: it was killed"
      fi
      ;;
    *) stopped='' ;;
    esac
    [ $((looks % 5)) -eq 0 ] || continue
    session
    [ -n "$again" ] || continue
    if is_amiss; then
      echo "what runs there came too late for the recovery: the master starts anew, or it would take cores for used that are free"
    elif is_stuck; then
      echo "the master was elected and failed before it led: it starts anew, or nobody would lead"
    else
      continue
    fi
    set +o posix
    end "${@:2}"
    return
  done
}

stop() {
  stopped=yes
  [ -n "$pid" ] || return 0
  # It would kill a master that is stopped.
  [ -z "$watcher" ] || kill "$watcher" 2>/dev/null || true
  end "$pid" "${ensemble[@]}"
}
paused=9
pid='' stopped='' watcher='' recovery='' ensemble=("$@")
trap stop TERM INT
# What a container before this one had no time to withdraw.
withdraw 0 "$@"
[ -z "$stopped" ] || exit 0
# A machine so busy that no recovery goes well is not helped by more of them.
most=3
left=$most
while :; do
  again=yes
  [ "$left" -gt 1 ] || again=
  rm -f "$SPARKHA_RECOVERY" "$SPARKHA_ELECTION"
  [ -z "$recovery" ] || exec {recovery}<&-
  recovery='' complete='' answered=' ' amiss=''
  # Beside the master, which may start before there is a quorum.
  [ -z "$login" ] || protect "$@" &
  "${master[@]}" &
  pid=$!
  [ -z "$stopped" ] || stop
  watch "$again" "$pid" "$@" &
  watcher=$!
  # A signal ends the waiting, too.
  while
    code=0
    wait "$pid" 2>/dev/null || code=$?
    kill -0 "$pid" 2>/dev/null
  do :; done
  kill "$watcher" 2>/dev/null || true
  watched=0
  wait "$watcher" 2>/dev/null || watched=$?
  # Its workers have lost it: they are answered by masters that stand by.
  if [ -s "$SPARKHA_SESSIONS" ] && leads; then sleep 2; fi
  # ZooKeeper may have to elect a leader of its own first: it was a lost server, maybe, that ended the master.
  withdraw 5 "$@"
  [ -z "$stopped" ] || exit "$code"
  if [ "$watched" -eq "$paused" ]; then
    left=$most
  elif [ $# -eq 2 ] && [ "$code" -eq 0 ] && leads; then
    echo "the master lost its leadership: another is started in its place"
    left=$most
  elif [ -n "$again" ] && { is_amiss || is_stuck; }; then
    left=$((left - 1))
  else
    exit "$code"
  fi
done
