#!/bin/bash
# Makes docs/images/create.svg from what `sparkha create` really shows on a terminal: picture.sh PATH-OF-SPARKHA
# It runs a cluster on this machine, with what prepare.sh installs.
set -euo pipefail
sparkha=$(realpath "$1")
cd "$(dirname "$0")/.."

SPARK_HOME=$("$sparkha" --quiet local fetch)
HOME=$(mktemp -d)
export SPARK_HOME HOME PATH=${sparkha%/*}:$PATH
unset XDG_STATE_HOME XDG_CONFIG_HOME
cluster=(--local --namespace data)
end() {
  sparkha teardown "${cluster[@]}" --yes >/dev/null 2>&1 || true
  rm -rf "$HOME"
}
trap end EXIT
# A terminal's emulator, which knows what stays of lines that are drawn again and again.
python3 -m pip install --quiet --root-user-action=ignore --target "$HOME/python" pyte==0.8.2
PYTHONPATH=$HOME/python demo/picture.py docs/images/create.svg sparkha create "${cluster[@]}"
