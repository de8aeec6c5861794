#!/bin/bash
# A leader change while a worker is drained, on the local platform: see drain.py. TRIALS, LAST and SEED: see there.
. "$(dirname "$0")/setup.sh"
echo "workers: {count: 2, cores: 2, memory: 3Gi}" >"$work/sparkha.yaml"
python3 "$here/drain.py" "$sparkha" "$work/sparkha.yaml" "$cluster"
