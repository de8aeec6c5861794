#!/bin/bash
# Runs the tests that need a real cluster: brings the testbed up, and down again if it was not up before.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/needs.sh
testbed=tests/testbed/testbed.sh

demo/prepare.sh tinyproxy-bin microsocks

was_up=
if [ "${SPARKHA_TEST_CLUSTER:-}" != existing ]; then
  "$testbed" healthy && was_up=yes
  trap '[ -n "$was_up" ] || "$testbed" down' EXIT
  "$testbed" build
  "$testbed" up
  eval "$("$testbed" env)"
fi
tests='test(/^kubernetes::/)'
if [ "${SPARKHA_TEST_CLUSTER:-}" = existing ]; then
  leave_out kubernetes::doctor:: "sets firewall rules on the testbed's node"
  leave_out kubernetes::policies::none_but_those "needs a network that enforces policies"
  [ -n "${SPARKHA_TEST_IMAGE:-}" ] ||
    leave_out kubernetes::deployed::the_router "needs SPARKHA_TEST_IMAGE, an image of sparkha that the cluster can pull"
fi
has_s3_image() {
  "$testbed" kubectl get nodes -o 'jsonpath={.items[*].status.images[*].names}' | grep -q 'apache/spark:[0-9.]*-s3' || {
    echo "no node has a Spark image with hadoop-aws" >&2
    return 1
  }
}
"${CARGO:-cargo}" build --locked
needs kubernetes::s3:: has_s3_image
needs kubernetes::s3:: tests/s3.sh target/debug/sparkha
SPARKHA_TIMES=kubernetes tests/run.sh -E "$tests"
if [ "${SPARKHA_TEST_CLUSTER:-}" != existing ] && [ -z "$was_up" ]; then
  "$testbed" down
  "$testbed" leftovers
fi
