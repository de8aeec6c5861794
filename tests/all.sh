#!/bin/bash
# all.sh [local | kubernetes]: prepares this machine and runs all tests, or only those that need no Kubernetes, or only those that do.
#
# The latter run on the testbed, which is ended afterwards unless it was up before. With SPARKHA_TEST_CLUSTER=existing, they run on the
# cluster of your KUBECONFIG.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/needs.sh
part=${1:-all}
case $part in
  all | local | kubernetes) ;;
  *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
testbed=tests/testbed/testbed.sh
sparkha=target/debug/sparkha
uses_testbed='' build='' was_up=''
[ "$part" = local ] || [ "${SPARKHA_TEST_CLUSTER:-}" = existing ] || uses_testbed=yes

end() {
  [ -z "$build" ] || kill -TERM -- "-$build" 2>/dev/null || true
  [ -z "$uses_testbed" ] || [ -n "$was_up" ] || "$testbed" down
}
trap end EXIT

demo/prepare.sh nginx-light dnsmasq-base etcd-server openssl curl bind9-dnsutils chromium chromium-driver tinyproxy-bin microsocks
if [ -n "$uses_testbed" ]; then
  ! "$testbed" healthy || was_up=yes
  "$testbed" install
  # Beside the local tests, with the time that they leave: they often wait, and a build from nothing would take eight minutes afterwards. As a
  # process group of its own, so that nothing of it outlives a failure.
  tests/beside.sh "$testbed" build &
  build=$!
fi
"${CARGO:-cargo}" build --locked

run_local() {
  tests='not test(/^(kubernetes|nodes)::/)'
  needs local::s3:: tests/s3.sh "$sparkha"
  needs local::coredns:: tests/coredns.sh
  needs offline::distribution::actionlint tests/gotool.sh actionlint
  SPARKHA_TIMES=local tests/run.sh -E "$tests"
}

has_s3_image() {
  "$testbed" kubectl get nodes -o 'jsonpath={.items[*].status.images[*].names}' | grep -q 'apache/spark:[0-9.]*-s3' || {
    echo "no node has a Spark image with hadoop-aws" >&2
    return 1
  }
}

run_kubernetes() {
  tests='test(/^kubernetes::/)'
  if [ -n "$uses_testbed" ]; then
    # What is missing all the same is built now, and all waits for it.
    { echo 0 >"/proc/$build/autogroup" && renice -n 0 -g "$build"; } >/dev/null 2>&1 || true
    wait "$build" || true
    build=
    "$testbed" up
    eval "$("$testbed" env)"
  else
    leave_out kubernetes::doctor:: "sets firewall rules on the testbed's node"
    leave_out kubernetes::policies::none_but_those "needs a network that enforces policies"
    [ -n "${SPARKHA_TEST_IMAGE:-}" ] ||
      leave_out kubernetes::deployed::the_router "needs SPARKHA_TEST_IMAGE, an image of sparkha that the cluster can pull"
  fi
  needs kubernetes::s3:: has_s3_image
  needs kubernetes::s3:: tests/s3.sh "$sparkha"
  SPARKHA_TIMES=kubernetes tests/run.sh -E "$tests"
}

if [ "$part" != kubernetes ]; then run_local; fi
if [ "$part" != local ]; then run_kubernetes; fi
if [ -n "$uses_testbed" ] && [ -z "$was_up" ]; then
  "$testbed" down
  "$testbed" leftovers
fi
