# What a master's entrypoint asks of ZooKeeper, by ZooKeeper's own protocol; to be sourced. A JVM would take a second to start.
. "$SPARK_CONF_DIR/tcp.sh"

# A character is a byte.
LC_ALL=C

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
# The bytes that digits stand for, to be printed as a format: `bytes`.
bytes_of() {
  local i
  bytes=''
  for ((i = 0; i < ${#1}; i += 2)); do bytes+="\\x${1:i:2}"; done
}
# Sends the request, its length first, and takes the answer.
ask() {
  local body=$request bytes
  request=''
  ints $((${#body} / 2))
  bytes_of "$request$body"
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
# Sends it; fails if ZooKeeper refuses, and leaves its word in `error`.
operate() {
  ask
  # Transaction (4 bytes), state (8), error (4), and what was asked for.
  error=${answer:24:8}
  answer=${answer:32}
  [ "$error" = 00000000 ]
}

# open_session HOST:PORT: connects, and logs in if there is a password.
open_session() {
  local host=${1%:*}
  # An IPv6 address has brackets.
  host=${host#[}
  open_tcp "${host%]}" "${1##*:}"
  # Protocol 0, nothing seen yet (64 bits), 4 s, no session (64 bits) and its password, not read-only.
  request=''
  ints 0 0 0 4000 0 0 16 0 0 0 0
  request+=00
  ask
  [ ! -e "/etc/zookeeper-auth/password" ] || login
}
close_session() {
  begin 9 -11
  operate
}

# SASL's DIGEST-MD5 (RFC 2831), as ZooKeeper's DigestLoginModule has it. The password is in no argument: printf is the shell's own.
login() {
  local bytes challenge realm='' nonce cnonce user password first second response
  user=$(zookeeper_user)
  password=$(secret_in "/etc/zookeeper-auth/password")
  begin 1 102
  ints 0
  operate
  bytes_of "${answer:8}"
  # shellcheck disable=SC2059
  printf -v challenge "$bytes"
  [[ $challenge =~ realm=\"([^\"]*)\" ]] && realm=${BASH_REMATCH[1]}
  [[ $challenge =~ nonce=\"([^\"]*)\" ]] && nonce=${BASH_REMATCH[1]}
  printf -v cnonce %08x $RANDOM $RANDOM $RANDOM $RANDOM
  first=$(printf %s "$user:$realm:$password" | md5sum)
  bytes_of "${first%% *}"
  # shellcheck disable=SC2059
  first=$({ printf "$bytes" && printf %s ":$nonce:$cnonce"; } | md5sum)
  second=$(printf %s "AUTHENTICATE:zookeeper/zk-sasl-md5" | md5sum)
  response=$(printf %s "${first%% *}:$nonce:00000001:$cnonce:auth:${second%% *}" | md5sum)
  begin 2 102
  string "charset=utf-8,username=\"$user\",realm=\"$realm\",nonce=\"$nonce\",nc=00000001,cnonce=\"$cnonce\",digest-uri=\"zookeeper/zk-sasl-md5\",response=${response%% *},qop=auth"
  operate
}
