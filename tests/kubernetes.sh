#!/bin/bash
# Runs the tests that need a real cluster: brings the testbed up, and down again if it was not up before.
set -euo pipefail
cd "$(dirname "$0")/.."
testbed=tests/testbed/testbed.sh

demo/prepare.sh tinyproxy-bin microsocks

was_up=
if [ "${SPARKHA_TEST_CLUSTER:-}" != existing ]; then
  "$testbed" healthy && was_up=yes
  trap '[ -n "$was_up" ] || "$testbed" down' EXIT
  "$testbed" up
  eval "$("$testbed" env)"
fi
tests='test(/^kubernetes::/)'
if [ "${SPARKHA_TEST_CLUSTER:-}" = existing ]; then
  # leave_out TEST REASON
  leave_out() {
    echo "left out: $1, which $2"
    tests+=" - test(=$1)"
  }
  leave_out kubernetes::doctor::every_trouble_of_a_cluster_is_found "sets firewall rules on the testbed's node"
  leave_out kubernetes::policies::none_but_those_who_belong_to_the_cluster_reach_it "needs a network that enforces policies"
  [ -n "${SPARKHA_TEST_IMAGE:-}" ] || leave_out kubernetes::deployed::the_router_and_the_watch_run_in_the_cluster_with_the_least_rights \
    "needs SPARKHA_TEST_IMAGE, an image of sparkha that the cluster can pull"
fi
SPARKHA_TIMES=kubernetes tests/run.sh -E "$tests"
if [ "${SPARKHA_TEST_CLUSTER:-}" != existing ] && [ -z "$was_up" ]; then
  "$testbed" down
  "$testbed" leftovers
fi
