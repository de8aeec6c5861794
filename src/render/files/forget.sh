#!/bin/bash
# Removes what masters remember of workers, so that the next leader does not wait for them.
#
#   forget.sh HOST:PORT ZNODE WORKER…    the masters' znode, and the workers' IDs
set -euo pipefail
. "$SPARK_CONF_DIR/secret.sh"
. "$SPARK_CONF_DIR/zookeeper-client.sh"

open_session "$1"
status=$2/master_status
shift 2
for worker; do
  # Deleted in any version; that it has gone already is as good.
  begin 5 2
  string "$status/worker_$worker"
  ints -1
  operate || [ "$error" = ffffff9b ]
done
echo "lost workers forgotten: $*"
close_session
