#!/bin/bash
# Runs the tests that need a real cluster: brings the testbed up, and down again if it was not up before.
set -euo pipefail
cd "$(dirname "$0")/.."
testbed=tests/testbed/testbed.sh

was_up=
if [ "${SPARKHA_TEST_CLUSTER:-}" != existing ]; then
  "$testbed" healthy && was_up=yes
  trap '[ -n "$was_up" ] || "$testbed" down' EXIT
  "$testbed" up
  eval "$("$testbed" env)"
fi
SPARKHA_TIMES=kubernetes tests/run.sh -E 'test(/^kubernetes::/)'
if [ "${SPARKHA_TEST_CLUSTER:-}" != existing ] && [ -z "$was_up" ]; then
  "$testbed" down
  "$testbed" leftovers
fi
