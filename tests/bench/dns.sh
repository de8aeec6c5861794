#!/bin/bash
# Speed of the router's DNS server beside a program that sends the same packets back: the loopback's own limit. Both by answers for each second of
# the server's processor time, for dnsperf needs a processor too. Needs dnsperf, dig and rustc.
#
#   tests/bench/dns.sh PATH-OF-SPARKHA
set -euo pipefail
sparkha=$(realpath "$1")
rounds=${ROUNDS:-5}
work=$(mktemp -d)
pid=
end() {
  [ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>/dev/null || true
  pid=
}
trap 'end; rm -rf "$work"' EXIT

rustc --edition 2024 -O -o "$work/udp_echo" "$(dirname "$0")/udp_echo.rs"
printf 'spark-10-1-2-%s.ns.k8s A\n' {1..250} >"$work/queries"
median() { sort -n | awk '{a[NR]=$1} END {print a[int((NR+1)/2)]}'; }
ticks() { awk '{print $14 + $15}' "/proc/$pid/stat"; }

# measure NAME ADDRESS COMMAND…: adds a line "answers for each processor second, answers for each second".
measure() {
  local name=$1 address=$2 before answers
  shift 2
  "$@" 2>/dev/null &
  pid=$!
  until dig -r +time=1 +tries=1 "@$address" -p 5353 a.k8s >/dev/null 2>&1; do kill -0 "$pid"; done
  before=$(ticks)
  answers=$(dnsperf -s "$address" -p 5353 -d "$work/queries" -l 2 -c 4 -q 200 | awk '/Queries completed/ {print $3}')
  echo "$((answers * $(getconf CLK_TCK) / ($(ticks) - before))) $((answers / 2))" >>"$work/$name"
  end
}

for _ in $(seq "$rounds"); do
  measure echo 127.0.8.101 "$work/udp_echo" 127.0.8.101:5353
  measure sparkha 127.0.8.102 "$sparkha" router --no-http --dns 127.0.8.102:5353 --address 192.0.2.7
done
for name in echo sparkha; do
  printf '%-8s %7s answers for each second of its processor time, %7s for each second\n' "$name" \
    "$(cut -d' ' -f1 "$work/$name" | median)" "$(cut -d' ' -f2 "$work/$name" | median)"
done
awk -v ours="$(cut -d' ' -f1 "$work/sparkha" | median)" -v echo="$(cut -d' ' -f1 "$work/echo" | median)" 'BEGIN {
  r = ours / echo; printf "sparkha / echo %.2f (at least 0.4)%s\n", r, (r < 0.4 ? "  TOO LITTLE" : "") }'
