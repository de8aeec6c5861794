#!/bin/bash
# Starts a Spark master in the foreground. The kubelet restarts it after any exit code.
#
#   master.sh [ZOOKEEPERS ZNODE]    HOST:PORT,… and the masters' znode
#
# This shell outlives the JVM, and does the following:
#
# - With ZooKeeper, it withdraws a dead or stopped JVM from the leader election. Otherwise the other masters wait until its session
#   expires. It never withdraws a JVM that still acts: a leader does not notice that its latch is gone, and there would be two leaders.
#
# - It keeps workers from registering with a recovering leader. A worker that loses its leader asks all masters at once to register it.
#   A master that was elected a moment ago then counts the worker as recovered, does not know its executors yet, and has them killed. So
#   a leader that is to end is stopped first: its connections stay open until the next leader has called the workers. A dead JVM has lost
#   its connections, so the election waits until the other masters have answered the workers.
#
# - It restarts a master whose recovery went wrong. A worker that registers with a recovering leader counts as recovered before it has
#   reported its executors. If the leader was waiting only for this worker, it launches the executors a second time, and counts their
#   cores as used forever. The worker then reports after the recovery, which reveals the error, and the next recovery has its report.
#   The leader also keeps an executor that ends during the recovery before the driver of its application has answered, so that
#   application gets no replacement. A master that is elected but cannot read its state, because ZooKeeper lost all data, is restarted
#   too: otherwise it would keep its latch and stay STANDBY forever.
#
# - It kills a master that was paused for longer than its session lasts. Another master leads by then. The first action of a master that
#   resumes may be to tell drivers that their workers sent no heartbeat for a minute, and to delete the znodes of these workers.
#
# - It restarts a master that lost its leadership or was paused, at once, because it did nothing wrong. The kubelet would delay
#   each restart for longer than the last, up to five minutes, and after some losses no master would be left to lead.
set -eu
export SPARK_PUBLIC_DNS="spark-${POD_IP//[.:]/-}.${POD_NAMESPACE}.${SPARKHA_UI_DOMAIN}"
. "$SPARK_CONF_DIR/secret.sh"
properties=$(with_secret master.conf)
master=("${SPARK_HOME:-/opt/spark}/bin/spark-class" org.apache.spark.deploy.master.Master
  --properties-file "$properties")

login=
if [ $# -eq 2 ]; then
  # The master has nothing to save, and the next leader is needed soon.
  signal=KILL
  login=$(zookeeper_login)
else
  # It may be writing to its recovery directory.
  signal=TERM
fi
# ZooKeeper's client defaults to FIPS mode, which forbids DIGEST-MD5.
[ -z "$login" ] ||
  export SPARK_DAEMON_JAVA_OPTS="$SPARK_DAEMON_JAVA_OPTS -Dzookeeper.fips-mode=false \"-Djava.security.auth.login.config=$login\""

# log4j2.properties makes the JVM log its sessions, its recovery and its election to these files, which last as long as the pod.
export SPARKHA_SESSIONS="/tmp/zookeeper-sessions" SPARKHA_RECOVERY="/tmp/recovery" SPARKHA_ELECTION="/tmp/election"

# at_any SERVERS SCRIPT ARGUMENTS…: runs a script for all servers in parallel, because some may be down. One success is enough.
at_any() {
  local servers=${1//,/ } script=$2 server output
  shift 2
  read -r output < <(for server in $servers; do
    timeout 2 /bin/bash "$SPARK_CONF_DIR/$script" "$server" "$@" 2>/dev/null &
  done) && echo "$output"
}
# withdraw SECONDS SERVERS ZNODE: deletes the latches of the recorded sessions, with retries for SECONDS. A single master has no sessions.
withdraw() {
  local deadline=$((SECONDS + $1))
  [ -s "$SPARKHA_SESSIONS" ] || return 0
  until at_any "$2" withdraw.sh "$3/leader_election" "$SPARKHA_SESSIONS"; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "no ZooKeeper server responds: the master's latch stays until its next start, or until its session expires"
      return
    fi
    sleep 0.1
  done
  rm -f "$SPARKHA_SESSIONS"
}
# leads: succeeds if this master was elected.
leads() {
  [ -e "$SPARKHA_ELECTION" ] && [[ $(<"$SPARKHA_ELECTION") == *"We have gained leadership"* ]]
}
# is_connected: succeeds if workers or drivers are connected. Local masters share one connection table, so the address must match too.
is_connected() {
  local address=[0-9A-F]* bytes
  if [[ $POD_IP != *:* ]]; then
    IFS=. read -ra bytes <<<"$POD_IP"
    printf -v address '[0-9A-F]*%02X%02X%02X%02X' "${bytes[3]}" "${bytes[2]}" "${bytes[1]}" "${bytes[0]}"
  fi
  # Port 7077 (1BA5), ESTABLISHED (01).
  grep -qs "^ *[0-9]*: $address:1BA5 [0-9A-F:]* 01 " /proc/net/tcp /proc/net/tcp6
}
# hand_over PID SERVERS ZNODE: ends a leader, whose connections stay open until the next leader has called the workers.
hand_over() {
  kill -STOP "$1" 2>/dev/null || return 0
  withdraw 2 "${@:2}"
  # The next leader is elected in well under a second and calls the workers. This takes longer on a busy machine.
  sleep 3
  kill -KILL "$1" 2>/dev/null || true
}
# terminate PID [SERVERS ZNODE]: ends the master, with a handover if it leads and has connections.
terminate() {
  if [ $# -eq 3 ] && leads && is_connected; then
    hand_over "$@"
  else
    kill "-$signal" "$1" 2>/dev/null || true
  fi
}
# protect SERVERS ZNODE: sets the access control lists as soon as there is a quorum. It tries each second for half a minute, and then once
# a minute, because znodes of another user cannot be changed.
protect() {
  local seconds
  for ((seconds = 0; ; seconds++)); do
    kill -0 $$ || return 0
    if [ $seconds -lt 30 ] || [ $((seconds % 60)) -eq 0 ]; then
      ! at_any "$1" protect.sh "$2" || return 0
    fi
    [ $seconds -ne 30 ] ||
      echo "znodes below $2 are not protected yet: no ZooKeeper server responds, or another user owns the znodes"
    sleep 1
  done
}

# recovery_failed: succeeds if a worker reported its executors only after the recovery, or if an executor ended before the driver of its
# application had answered. A leader without stored state has nothing to recover. Each call reads on from where the last one ended, and
# collects in `answered` the applications whose drivers have answered.
recovery_failed() {
  local line
  if [ -z "$recovery" ]; then
    [ -e "$SPARKHA_RECOVERY" ] || return 1
    exec {recovery}<"$SPARKHA_RECOVERY"
  fi
  if [ -z "$complete" ] && [ -e "$SPARKHA_ELECTION" ] && [[ $(<"$SPARKHA_ELECTION") == *"New state: ALIVE"* ]]; then
    complete=yes
  fi
  while [ -z "$failed" ] && read -r line; do
    case $line in
    "Recovery complete"*) complete=yes ;;
    "Worker has been re-registered"*) failed=$complete ;;
    "Application has been re-registered: "*) answered+="${line##*: } " ;;
    "Removing executor "*)
      line=${line#Removing executor }
      [ -n "$complete" ] || [[ $answered == *" ${line%%/*} "* ]] || failed=yes
      ;;
    esac
  done <&"$recovery"
  [ -n "$failed" ]
}
# election_failed: succeeds if this master was elected but failed before it led.
election_failed() {
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
# now: sets `now`, in hundredths of a second, from a clock that counts suspension and cannot be set. It starts no process.
now() {
  read -r now _ </proc/uptime
  now=$((10#${now/./}))
}
seconds() { printf '%d.%02d' "$(($1 / 100))" "$(($1 % 100))"; }
# read_session: sets `session` to the time-out of the JVM's current session, in hundredths of a second. Empty if there was no session.
read_session() {
  local line
  session=''
  [ -s "$SPARKHA_SESSIONS" ] || return 0
  while read -r line; do
    [[ ! $line =~ negotiated\ timeout\ =\ ([0-9]+) ]] || session=$((BASH_REMATCH[1] / 10))
  done <"$SPARKHA_SESSIONS"
}
# kill_paused PID MESSAGE: kills the master, logs why and ends the watch. It ignores the SIGTERM that the watch gets once the master is
# dead, so that the message is logged.
kill_paused() {
  trap '' TERM
  kill -KILL "$1" 2>/dev/null || true
  echo "$2"
  exit "$paused"
}
# watch RESTART PID [SERVERS ZNODE]: kills a paused master, and exits with `paused`. If RESTART is set, it also ends a master whose
# election or recovery went wrong.
watch() {
  local restart=$1 pid=$2 now last stat stopped='' session='' rounds never
  exec {never}<> <(:)
  # In POSIX mode, bash waits by an alarm, which is due as soon as all processes wake. Otherwise it may wait by select(), which the kernel
  # continues for the remaining time: a tenth of a second in which the master acts.
  set -o posix
  now
  for ((rounds = 0; ; rounds++)); do
    last=$now
    # This sleeps for 0.2 s, because nothing is ever written to the pipe.
    read -rt 0.2 -u "$never" || true
    now
    # The entrypoint and the JVM were paused and wake together. The JVM must be dead before it acts.
    if [ -n "$session" ] && [ $((now - last)) -ge "$session" ]; then
      kill_paused "$pid" \
        "this pod was paused for $(seconds $((now - last))) s, and the master's session lasts $(seconds "$session") s: killed the master"
    fi
    read -r stat 2>/dev/null <"/proc/$pid/stat" || return 0
    case ${stat##*) } in
    [Tt]*)
      stopped=${stopped:-$last}
      # After two thirds of the session time-out, ZooKeeper's client gives up the session, and the master ends.
      if [ -n "$session" ] && [ $((now - stopped)) -ge $((session * 2 / 3)) ]; then
        kill_paused "$pid" \
          "the master was stopped for $(seconds $((now - stopped))) s, and its session lasts $(seconds "$session") s: killed it"
      fi
      ;;
    *) stopped='' ;;
    esac
    [ $((rounds % 5)) -eq 0 ] || continue
    read_session
    [ -n "$restart" ] || continue
    if recovery_failed; then
      echo "the recovery went wrong: restarting the master, because it would count free cores as used"
    elif election_failed; then
      echo "the master was elected but failed before it led: restarting it, because otherwise no master would lead"
    else
      continue
    fi
    set +o posix
    terminate "${@:2}"
    return
  done
}

stop() {
  stopped=yes
  [ -n "$pid" ] || return 0
  # The watch would kill a master that a handover has stopped.
  [ -z "$watcher" ] || kill "$watcher" 2>/dev/null || true
  terminate "$pid" "${ensemble[@]}"
}
paused=9
pid='' stopped='' watcher='' recovery='' ensemble=("$@")
trap stop TERM INT
# Withdraw the sessions that an earlier container of this pod could not withdraw.
withdraw 0 "$@"
[ -z "$stopped" ] || exit 0
# Three starts in a row at most: on a machine so busy that recoveries go wrong, more of them do not help.
max_starts=3
starts_left=$max_starts
while :; do
  restart=yes
  [ "$starts_left" -gt 1 ] || restart=
  rm -f "$SPARKHA_RECOVERY" "$SPARKHA_ELECTION"
  [ -z "$recovery" ] || exec {recovery}<&-
  recovery='' complete='' answered=' ' failed=''
  # In the background, because the master may start before there is a quorum.
  [ -z "$login" ] || protect "$@" &
  "${master[@]}" &
  pid=$!
  [ -z "$stopped" ] || stop
  watch "$restart" "$pid" "$@" &
  watcher=$!
  # `wait` also returns on a signal.
  while
    code=0
    wait "$pid" 2>/dev/null || code=$?
    kill -0 "$pid" 2>/dev/null
  do :; done
  kill "$watcher" 2>/dev/null || true
  watched=0
  wait "$watcher" 2>/dev/null || watched=$?
  # The workers have lost their leader. In these 2 s the standby masters answer them.
  if [ -s "$SPARKHA_SESSIONS" ] && leads; then sleep 2; fi
  # A lost ZooKeeper server may be what ended the master. Then the other servers elect their own leader first.
  withdraw 5 "$@"
  [ -z "$stopped" ] || exit "$code"
  if [ "$watched" -eq "$paused" ]; then
    starts_left=$max_starts
  elif [ $# -eq 2 ] && [ "$code" -eq 0 ] && leads; then
    echo "the master lost its leadership: another is started in its place"
    starts_left=$max_starts
  elif [ -n "$restart" ] && { recovery_failed || election_failed; }; then
    starts_left=$((starts_left - 1))
  else
    exit "$code"
  fi
done
