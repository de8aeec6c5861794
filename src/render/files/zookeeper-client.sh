# Source this file. It speaks ZooKeeper's protocol for a master's entrypoint, because a JVM would take a second to start.
. "$SPARK_CONF_DIR/tcp.sh"

# One character is one byte.
LC_ALL=C

# Requests and answers are kept as hexadecimal digits.

# digits_of CHARACTER: sets `digits`. The empty string stands for the byte 0.
digits_of() {
  printf -v digits %d "'$1"
  printf -v digits %02x $((digits & 255))
}
# These functions append to `request`: 32-bit integers, a string, and a string that is given as digits.
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
# bytes_of DIGITS: sets `bytes` to a printf format that prints the bytes of these digits.
bytes_of() {
  local i
  bytes=''
  for ((i = 0; i < ${#1}; i += 2)); do bytes+="\\x${1:i:2}"; done
}
# Sends the length of the request and the request, and sets `answer`.
call() {
  local body=$request bytes
  request=''
  ints $((${#body} / 2))
  bytes_of "$request$body"
  # shellcheck disable=SC2059 # the bytes are the format
  printf "$bytes" >&3
  receive 4
  receive $((16#$answer))
}
# receive COUNT: reads so many bytes into `answer`.
receive() {
  local i byte
  answer=''
  for ((i = 0; i < $1; i++)); do
    # `read` returns after one byte, or at the byte 0 with an empty string.
    IFS= read -r -d '' -n 1 byte <&3
    digits_of "$byte"
    answer+=$digits
  done
}
# begin XID OPERATION: begins a request with its transaction ID and the number of its operation.
begin() {
  request=''
  ints "$1" "$2"
}
# Sends the request. Fails if ZooKeeper returns an error, and sets `error` to its code.
operate() {
  call
  # The answer has the transaction ID (4 bytes), the zxid (8), the error (4) and the result.
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
  # Protocol version 0, last zxid 0 (64 bits), time-out 4000 ms, session ID 0 (64 bits), its password (16 bytes of 0), not read-only.
  request=''
  ints 0 0 0 4000 0 0 16 0 0 0 0
  request+=00
  call
  [ ! -e "/etc/zookeeper-auth/password" ] || login
}
close_session() {
  begin 9 -11
  operate
}

# Logs in by SASL's DIGEST-MD5 (RFC 2831), like ZooKeeper's DigestLoginModule. The password is in no process's arguments, because printf
# is a shell builtin.
login() {
  local bytes challenge realm='' nonce cnonce user password first second response reply
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
  reply="charset=utf-8,username=\"$user\",realm=\"$realm\",nonce=\"$nonce\",nc=00000001,cnonce=\"$cnonce\""
  reply+=",digest-uri=\"zookeeper/zk-sasl-md5\",response=${response%% *},qop=auth"
  string "$reply"
  operate
}
