#!/bin/bash
# Withdraws a dead master from the leader election by deleting the latches of its sessions. Another master then leads at once, and not
# only after the sessions have expired.
#
#   withdraw.sh HOST:PORT ZNODE FILE    ZNODE's children are the latches; FILE has "session id = 0x…" for each session
set -euo pipefail
. "$SPARK_CONF_DIR/secret.sh"
. "$SPARK_CONF_DIR/zookeeper-client.sh"

declare -A is_dead=()
while read -r line; do
  [[ $line =~ session\ id\ =\ 0x([0-9a-f]+) ]] || continue
  printf -v session %016x "0x${BASH_REMATCH[1]}"
  is_dead[$session]=yes
done <"$3"

open_session "$1"
# getChildren, without a watch.
begin 3 8
string "$2"
election=${request:24}
request+=00
operate
children=$answer at=8
while [ $at -lt ${#children} ]; do
  length=$((16#${children:at:8} * 2))
  latch=${election}2f${children:at+8:length}
  at=$((at + 8 + length))
  # exists, without a watch. The session that owns the latch begins at byte 44 of the answer. A latch that is gone by now needs nothing.
  begin 4 3
  string_of "$latch"
  request+=00
  operate || continue
  session=${answer:88:16}
  [ -n "${is_dead[$session]:-}" ] || continue
  # delete, for any version.
  begin 5 2
  string_of "$latch"
  ints -1
  operate || continue
done
echo "withdrawn from the election: session ${!is_dead[*]}"
close_session
