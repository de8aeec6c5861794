#!/bin/bash
# To be sourced: for whom it is too early before a master leads.

# is_led MASTERS: whether one of these masters (spark://HOST:PORT,…) leads.
is_led() {
  local masters=${1#spark://} master
  for master in ${masters//,/ }; do
    ! timeout 2 /bin/bash "$SPARK_CONF_DIR/leads.sh" "${master%:*}" 8080 2>/dev/null || return 0
  done
  return 1
}
# until_led MASTERS SECONDS COMMAND…: waits until one leads, so long at most; the command tells of it.
until_led() {
  local deadline=$((SECONDS + $2)) told=
  while [ "$SECONDS" -lt "$deadline" ]; do
    ! is_led "$1" || return 0
    [ -n "$told" ] || "${@:3}"
    told=yes
    sleep 0.5
  done
}
