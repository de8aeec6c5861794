#!/bin/bash
# Runs the tests that need no Kubernetes. The testbed is built beside them, with the time that they leave: they often wait, and a build from
# nothing would take eight minutes afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/needs.sh

demo/prepare.sh nginx-light dnsmasq-base etcd-server openssl curl bind9-dnsutils chromium chromium-driver
build=''
if [ "${SPARKHA_TEST_CLUSTER:-}" != existing ]; then
  tests/testbed/testbed.sh install
  # As a process group of its own, so that nothing of it outlives a failure.
  tests/beside.sh tests/testbed/testbed.sh build &
  build=$!
  trap '[ -z "$build" ] || kill -TERM -- "-$build" 2>/dev/null || true' EXIT
fi
tests='not test(/^(kubernetes|nodes)::/)'
"${CARGO:-cargo}" build --locked
needs local::s3:: tests/s3.sh target/debug/sparkha
needs local::coredns:: tests/coredns.sh
SPARKHA_TIMES=local tests/run.sh -E "$tests"
# What is missing all the same is built before the tests on Kubernetes.
[ -z "$build" ] || wait "$build" || true
build=''
