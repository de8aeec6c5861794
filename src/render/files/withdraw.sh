#!/bin/bash
# Withdraws a dead master from the election, so that another leads at once and not only when the dead one's session has expired:
# deletes the latches of its sessions. It speaks ZooKeeper's own protocol and starts no process: a JVM would take a second.
#
#   withdraw.sh HOST:PORT ZNODE FILE    ZNODE's children are the latches; FILE has "session id = 0x…" for each session
#
# A file that SPARKHA_ZOOKEEPER_AUTH names has `user:password` for ZooKeeper's scheme `digest`.
set -euo pipefail
# A character is a byte.
LC_ALL=C
host=${1%:*} port=${1##*:} election=$2
# An IPv6 address has brackets.
host=${host#[} host=${host%]}

declare -A is_dead=()
while read -r line; do
  [[ $line =~ session\ id\ =\ 0x([0-9a-f]+) ]] || continue
  printf -v session %016x "0x${BASH_REMATCH[1]}"
  is_dead[$session]=yes
done <"$3"

# Where pods share a machine, a file knows their names.
if [ -n "${SPARKHA_HOSTS_FILE:-}" ]; then
  while read -r address names; do
    case " $names " in *" $host "*) host=$address && break ;; esac
  done <"$SPARKHA_HOSTS_FILE"
fi
exec 3<>"/dev/tcp/$host/$port"

# What is sent and received is kept as hexadecimal digits. A character's are left in `digits`; none is the byte 0.
digits_of() {
  printf -v digits %d "'$1"
  printf -v digits %02x $((digits & 255))
}
# These add to the request: numbers of 32 bits, a string, a string that is digits already.
ints() {
  local int
  for int; do
    printf -v int %08x $((int & 0xffffffff))
    request+=$int
  done
}
string() {
  local i
  ints ${#1}
  for ((i = 0; i < ${#1}; i++)); do
    digits_of "${1:i:1}"
    request+=$digits
  done
}
string_of() {
  ints $((${#1} / 2))
  request+=$1
}
# Sends the request, its length first, and takes the answer.
ask() {
  local i bytes='' body=$request
  request=''
  ints $((${#body} / 2))
  request+=$body
  for ((i = 0; i < ${#request}; i += 2)); do bytes+="\\x${request:i:2}"; done
  # shellcheck disable=SC2059 # the bytes are the format
  printf "$bytes" >&3
  receive 4
  receive $((16#$answer))
}
receive() {
  local i byte
  answer=''
  for ((i = 0; i < $1; i++)); do
    # It ends after one byte, or with the byte 0.
    IFS= read -r -d '' -n 1 byte <&3
    digits_of "$byte"
    answer+=$digits
  done
}
# Begins a request: its transaction, and the number of the operation.
begin() {
  request=''
  ints "$1" "$2"
}
# Sends it; fails if ZooKeeper refuses.
operate() {
  ask
  # Transaction (4 bytes), state (8), error (4), and what was asked for.
  local error=${answer:24:8}
  answer=${answer:32}
  [ "$error" = 00000000 ]
}

# Protocol 0, nothing seen yet (64 bits), 4 s, no session (64 bits) and its password, not read-only.
request=''
ints 0 0 0 4000 0 0 16 0 0 0 0
request+=00
ask
if [ -n "${SPARKHA_ZOOKEEPER_AUTH:-}" ]; then
  begin -4 100
  ints 0
  string digest
  string "$(<"$SPARKHA_ZOOKEEPER_AUTH")"
  operate
fi
# The children, not watched.
begin 1 8
string "$election"
election=${request:24}
request+=00
operate
children=$answer at=8
while [ $at -lt ${#children} ]; do
  length=$((16#${children:at:8} * 2))
  latch=${election}2f${children:at+8:length}
  at=$((at + 8 + length))
  # Described, not watched: byte 44 begins with the session that it belongs to. One that has gone meanwhile needs nothing.
  begin 2 3
  string_of "$latch"
  request+=00
  operate || continue
  session=${answer:88:16}
  [ -n "${is_dead[$session]:-}" ] || continue
  # Deleted in any version.
  begin 3 2
  string_of "$latch"
  ints -1
  operate || continue
done
echo "withdrawn from the election: session ${!is_dead[*]}"
begin 4 -11
operate
