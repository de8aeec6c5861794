#!/bin/bash
# Lets nobody but this cluster's masters into their znodes: makes those that are not there, and sets the access control of all. Spark
# leaves what it makes open to everybody.
#
#   protect.sh HOST:PORT ZNODE
set -euo pipefail
. "$SPARK_CONF_DIR/secret.sh"
. "$SPARK_CONF_DIR/zookeeper-client.sh"
user=$(zookeeper_user)

# acl SCHEME ID: all rights, and nothing for anybody else.
acl() {
  ints 1 31
  string "$1"
  string "$2"
}
# make ZNODE SCHEME ID: empty, and lasting. That it is there already is as good.
make() {
  begin 3 1
  string "$1"
  ints 0
  acl "$2" "$3"
  ints 0
  operate || [ "$error" = ffffff92 ]
}

open_session "$1"
# What others share with it stays open.
above=''
while IFS= read -r -d / part; do
  [ -n "$part" ] || continue
  above+=/$part
  make "$above" world anyone
done <<<"${2%/*}/"
for znode in "$2" "$2/leader_election" "$2/master_status"; do
  make "$znode" sasl "$user"
  # In any version.
  begin 4 7
  string "$znode"
  acl sasl "$user"
  ints -1
  operate
done
echo "znodes below $2 are for $user alone"
close_session
