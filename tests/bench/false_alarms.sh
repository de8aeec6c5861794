#!/bin/bash
# A busy machine, on the local platform: see false_alarms.py. LOAD, MINUTES and PAUSE: see there.
. "$(dirname "$0")/setup.sh"
echo "workers: {count: 2, cores: 2, memory: 3Gi}" >"$work/sparkha.yaml"
python3 "$here/false_alarms.py" "$sparkha" "$work/sparkha.yaml" "$cluster"
