# How a leader's recovery goes, read from what its JVM logs; to be sourced. A new leader waits for every worker and application that it remembers,
# spark.deploy.recoveryTimeout at most, and starts no executors meanwhile.

# Whether a worker told what runs there only when the recovery was complete, or the master waits in vain.
is_amiss() {
  local line complete=
  [ -e "$SPARKHA_RECOVERY" ] || return 1
  while read -r line; do
    case $line in
    "Recovery complete"*) complete=yes ;;
    "Worker has been"*) [ -z "$complete" ] || return 0 ;;
    "In vain"*) return 0 ;;
    esac
  done <"$SPARKHA_RECOVERY"
  return 1
}

# The workers that are still waited for; none if an application is waited for, too, or nothing is. Only a driver knows whether it is paused or gone, and
# an application that the leader gives up is lost.
waited_for() {
  local line key
  local -A workers=() applications=()
  while read -r line; do
    key=${line##* }
    case $line in
    "Trying to recover app: "*) applications[$key]=yes ;;
    "Trying to recover worker: "*) workers[$key]=yes ;;
    "Application has been re-registered: "*) unset "applications[$key]" ;;
    "Worker has been re-registered: "*) unset "workers[$key]" ;;
    "Recovery complete"*) return 0 ;;
    esac
  done <"$SPARKHA_RECOVERY"
  [ ${#applications[@]} -gt 0 ] || echo "${!workers[@]}"
}

# accepts WORKER: whether a connection can be opened to it. A worker that is paused, or on a machine that is busy, does not answer the
# leader, but its kernel accepts connections; one whose process has ended refuses them, and from one whose node is lost nothing comes.
accepts() {
  local host
  [[ $1 =~ ^worker-[0-9]+-(.+)-([0-9]+)$ ]] || return 0
  host=${BASH_REMATCH[1]#[}
  # shellcheck disable=SC2016 # expanded there
  timeout 1 /bin/bash -c '. "$0" && open_tcp "$1" "$2"' "$SPARK_CONF_DIR/tcp.sh" "${host%]}" "${BASH_REMATCH[2]}" 2>/dev/null
}

# The workers that are still waited for, if none of them accepts a connection, twice.
lost_workers() {
  local workers worker try tries
  [ -s "$SPARKHA_RECOVERY" ] || return 0
  for try in 1 2; do
    workers=$(waited_for)
    [ -n "$workers" ] || return 0
    tries=()
    for worker in $workers; do
      accepts "$worker" &
      tries+=($!)
    done
    for worker in "${tries[@]}"; do
      ! wait "$worker" || return 0
    done
    # One that is refused at once may be about to be started again elsewhere; the others have been waited for.
    [ "$try" = 2 ] || sleep 0.5
  done
  # Has one answered meanwhile?
  [ "$workers" != "$(waited_for)" ] || echo "$workers"
}
