#!/bin/bash
# Source this file. Workers and drivers use it to wait for a leader before they start Spark.

# is_led MASTERS: succeeds if one of the masters (spark://HOST:PORT,…) leads.
is_led() {
  local masters=${1#spark://} master
  for master in ${masters//,/ }; do
    ! timeout 2 /bin/bash "$SPARK_CONF_DIR/leads.sh" "${master%:*}" 8080 2>/dev/null || return 0
  done
  return 1
}
# until_led MASTERS SECONDS COMMAND…: waits until a master leads, for SECONDS at most. If it has to wait, it runs COMMAND once.
until_led() {
  local deadline=$((SECONDS + $2)) reported=
  while [ "$SECONDS" -lt "$deadline" ]; do
    ! is_led "$1" || return 0
    [ -n "$reported" ] || "${@:3}"
    reported=yes
    sleep 0.5
  done
}
