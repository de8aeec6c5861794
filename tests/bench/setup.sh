# To be sourced: makes a folder with a state of its own for a local cluster, and removes both at the end, also after a failure. KEEP=1 keeps the folder.
set -euo pipefail
sparkha=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
SPARK_HOME=${SPARK_HOME:-$("$sparkha" local fetch 2>/dev/null)}
export SPARK_HOME XDG_STATE_HOME=$work/state
cluster=$XDG_STATE_HOME/sparkha/clusters/default/spark
trap '"$sparkha" teardown --local --yes >/dev/null 2>&1 || true; [ -n "${KEEP:-}" ] || rm -rf "$work"' EXIT
