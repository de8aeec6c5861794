#!/bin/bash
# How fast another master leads when the leader has gone, on the local platform with the default cluster: see failover.py. Long ones are
#
#   TRIALS=200 tests/bench/failover.sh PATH-OF-SPARKHA     200 leaders lost in each way; never two ALIVE at once
#   LOAD=600 TRIALS=20 …                                   the machine at full load for ten minutes first; nobody may fail over
#   DISK=4 …                                               so many write to ZooKeeper's disk all the time, each megabyte to its end
#   WAYS="jvm node" FAILOVER_SECONDS=6 …                   only some ways, or with another session time-out
. "$(dirname "$0")/setup.sh"
cat >"$work/sparkha.yaml" <<END
${FAILOVER_SECONDS:+zookeeper: {failoverSeconds: $FAILOVER_SECONDS\}}
END
# Each ends with the folder, or with this script if that is kept.
for ((i = 0; i < ${DISK:-0}; i++)); do
  while [ -e "$work/sparkha.yaml" ] && kill -0 $$ 2>/dev/null; do
    dd if=/dev/zero of="$work/written.$i" bs=1M count=64 conv=notrunc oflag=dsync status=none || break
  done &
done
python3 "$here/failover.py" "$sparkha" "$work/sparkha.yaml" "$cluster"
