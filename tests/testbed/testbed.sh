#!/bin/bash
# A real Kubernetes 1.20 of one or more nodes from Debian's packages, with a real Spark image, for tests on a machine that has neither:
# etcd, kube-apiserver, controller-manager, scheduler, kubelet, kube-proxy, containerd, runc, CNI and DNS.
#
#   testbed.sh up         installs and builds what is missing, starts the node, waits until it works; NODES=3: three nodes in namespaces;
#                         KUBERNETES=1.37.2: this version from Go modules, with a current containerd, where Go is installed
#   testbed.sh down       ends it and removes every process, mount, interface and firewall chain of its own
#   testbed.sh leftovers  lists what is left of it; exit code 1 if there is anything
#   testbed.sh healthy    exit code 0 if it is up
#   testbed.sh env        prints how to use it from a shell
#   testbed.sh kubectl …  runs kubectl against it
#   testbed.sh image PROGRAM TAG [NODE]   gives every node, or this one, an image of a program
#   testbed.sh pause DAEMON     stops it where it is, as a node's kube-proxy that hangs; its processes stay
#   testbed.sh resume DAEMON    undoes that
#   testbed.sh nodes      lists the nodes: name, address, process whose namespaces are the node's (for nsenter --target)
#   testbed.sh lose NODE  of several: link down and every process stopped, as if its power had gone
#   testbed.sh cut NODE   of several: link down only
#   testbed.sh regain NODE   undoes lose and cut
#
# What takes long is kept in a cache outside the checkout, keyed by version (SPARKHA_CACHE, default ~/.cache/sparkha).
# SPARKHA_TEST_CLUSTER=existing uses the cluster of your KUBECONFIG instead: up and down then do nothing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SPARKHA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sparkha}
state=${SPARKHA_TESTBED_DIR:-/var/tmp/sparkha-testbed}

debian_version=1.20.2
kubernetes_version=$(cat "$state/version" 2>/dev/null || echo "${KUBERNETES:-$debian_version}")
spark_version=4.3.0
# Raised when something is built otherwise.
revision=6
debian_binaries=$cache/kubernetes-$debian_version-7
images=$cache/images-spark-$spark_version-$revision
if [ "$kubernetes_version" = "$debian_version" ]; then
  binaries=$debian_binaries
  image_store=$cache/containerd-spark-$spark_version-$revision
else
  containerd_version=2.4.2
  binaries=$cache/kubernetes-$kubernetes_version-containerd-$containerd_version
  image_store=$cache/containerd-$containerd_version-spark-$spark_version-$revision
  # containerd, its shim and ctr.
  PATH=$binaries:$PATH
fi

export KUBECONFIG_TESTBED=$state/kubeconfig

say() { printf 'testbed: %s\n' "$*" >&2; }

# retry COMMAND…: for what goes over the network.
retry() {
  local attempt
  for attempt in 1 2 3 4; do
    "$@" && return 0
    say "attempt $attempt of 4 failed: $*"
    sleep "$((attempt * 3))"
  done
  return 1
}

# wait_for SECONDS WHAT COMMAND…: until the command succeeds.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= deadline)); then
      say "$what: not within the time; the logs are in $state/logs"
      return 1
    fi
    sleep 0.2
  done
}

# shellcheck source=build.sh
. "$here/build.sh"
# shellcheck source=node.sh
. "$here/node.sh"

if [ "${SPARKHA_TEST_CLUSTER:-}" = existing ]; then
  case ${1:-} in
    up | down) say "SPARKHA_TEST_CLUSTER=existing: your own cluster is used, nothing to do" && exit 0 ;;
    kubectl) shift && exec kubectl "$@" ;;
  esac
fi

case ${1:-} in
  install) install_packages ;;
  build) install_packages && build_for_tests ;;
  up)
    if node_is_healthy && [ "${NODES:-$nodes}" = "$nodes" ] && [ "${KUBERNETES:-$kubernetes_version}" = "$kubernetes_version" ]; then
      say "is up already"
    else
      install_packages && build_all && node_down && node_up
    fi
    say "use it with: export KUBECONFIG=$state/kubeconfig"
    ;;
  down) node_down ;;
  leftovers) node_leftovers ;;
  healthy) node_is_healthy ;;
  env) echo "export KUBECONFIG=$state/kubeconfig PATH=$binaries:\$PATH" ;;
  image) import_program "$2" "$3" "${4:-}" ;;
  pause) signal_daemon STOP "$2" ;;
  resume) signal_daemon CONT "$2" ;;
  nodes) list_nodes ;;
  lose) lose_node "$2" ;;
  cut) cut_node "$2" ;;
  regain) regain_node "$2" ;;
  kubectl) shift && exec "$binaries/kubectl" --kubeconfig "$state/kubeconfig" "$@" ;;
  *)
    sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
