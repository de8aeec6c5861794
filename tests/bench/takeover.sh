#!/bin/bash
# Leaders that end under a job, on the local platform: see takeover.py. TRIALS and WAYS: see there.
. "$(dirname "$0")/setup.sh"
echo "workers: {count: 2, cores: 2, memory: 3Gi}" >"$work/sparkha.yaml"
python3 "$here/takeover.py" "$sparkha" "$work/sparkha.yaml" "$cluster"
