# shellcheck shell=bash # to be sourced
# A network namespace that has all addresses of 10.99.0.0/16, for pods that exist in the API server only. The caller removes it at the end,
# also after a failure.

# add_addresses NAMESPACE
add_addresses() {
  ip netns add "$1"
  ip link add "$1" type veth peer name eth0 netns "$1"
  ip address add 10.98.0.1/30 dev "$1"
  ip link set "$1" up
  ip -n "$1" address add 10.98.0.2/30 dev eth0
  ip -n "$1" link set lo up
  ip -n "$1" link set eth0 up
  ip -n "$1" route add default via 10.98.0.1
  ip -n "$1" route add local 10.99.0.0/16 dev lo
  ip route add 10.99.0.0/16 via 10.98.0.2
}

# remove_addresses NAMESPACE
remove_addresses() {
  ip netns delete "$1" 2>/dev/null || true
  ip link delete "$1" 2>/dev/null || true
}
