#!/bin/bash
# all.sh [local | kubernetes]: prepares this machine and runs all tests, or only those that need no Kubernetes, or only those that do.
#
# The latter run on the testbed, which is ended afterwards unless it was up before. With SPARKHA_TEST_CLUSTER=existing, they run on the
# cluster of your KUBECONFIG.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/needs.sh
part=${1:-all} with_local=yes with_kubernetes=yes
case $part in
  all) tests='not test(/^nodes::/)' ;;
  local) tests='not test(/^(kubernetes|nodes)::/)' with_kubernetes= ;;
  kubernetes) tests='test(/^kubernetes::/)' with_local= ;;
  *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
testbed=tests/testbed/testbed.sh
sparkha=target/debug/sparkha
uses_testbed='' up='' was_up=''
[ -z "$with_kubernetes" ] || [ "${SPARKHA_TEST_CLUSTER:-}" = existing ] || uses_testbed=yes

end() {
  [ -z "$up" ] || kill -TERM -- "-$up" 2>/dev/null || true
  [ -z "$uses_testbed" ] || [ -n "$was_up" ] || "$testbed" down
}
trap end EXIT

demo/prepare.sh nginx-light dnsmasq-base etcd-server openssl curl bind9-dnsutils chromium chromium-driver tinyproxy-bin microsocks
if [ -n "$uses_testbed" ]; then
  ! "$testbed" healthy || was_up=yes
  "$testbed" install
  # Beside the compiler. As a process group of its own, so that nothing of a build outlives a failure.
  # shellcheck disable=SC2016 # $1 is the new shell's
  setsid bash -c '"$1" build && exec "$1" up' up "$testbed" &
  up=$!
fi
"${CARGO:-cargo}" build --locked

if [ -n "$with_local" ]; then
  needs local::s3:: tests/s3.sh "$sparkha"
  needs local::coredns:: tests/coredns.sh
  needs offline::distribution::actionlint tests/gotool.sh actionlint
fi

has_s3_image() {
  "$testbed" kubectl get nodes -o 'jsonpath={.items[*].status.images[*].names}' | grep -q 'apache/spark:[0-9.]*-s3' || {
    echo "no node has a Spark image with hadoop-aws" >&2
    return 1
  }
}

if [ -n "$uses_testbed" ]; then
  wait "$up"
  up=
  eval "$("$testbed" env)"
elif [ -n "$with_kubernetes" ]; then
  leave_out kubernetes::doctor:: "sets firewall rules on the testbed's node"
  leave_out kubernetes::policies::none_but_those "needs a network that enforces policies"
  [ -n "${SPARKHA_TEST_IMAGE:-}" ] ||
    leave_out kubernetes::deployed::the_router "needs SPARKHA_TEST_IMAGE, an image of sparkha that the cluster can pull"
fi
if [ -n "$with_kubernetes" ]; then
  needs kubernetes::s3:: has_s3_image
  needs kubernetes::s3:: tests/s3.sh "$sparkha"
fi
# One run: tests on Kubernetes mostly wait, and those on this machine take the processors meanwhile.
SPARKHA_TIMES=$part tests/run.sh -E "$tests"
if [ -n "$uses_testbed" ] && [ -z "$was_up" ]; then
  "$testbed" down
  "$testbed" leftovers
fi
