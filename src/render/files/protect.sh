#!/bin/bash
# Gives only this cluster's masters access to their znodes: creates missing znodes, and sets the access control list of each. Spark
# leaves the znodes that it creates open to everybody.
#
#   protect.sh HOST:PORT ZNODE
set -euo pipefail
. "$SPARK_CONF_DIR/secret.sh"
. "$SPARK_CONF_DIR/zookeeper-client.sh"
user=$(zookeeper_user)

# acl SCHEME ID: adds an access control list to the request. It grants all permissions to this ID, and none to others.
acl() {
  ints 1 31
  string "$1"
  string "$2"
}
# make ZNODE SCHEME ID: creates an empty, persistent znode. An existing znode is not an error.
make() {
  begin 3 1
  string "$1"
  ints 0
  acl "$2" "$3"
  ints 0
  operate || [ "$error" = ffffff92 ]
}

open_session "$1"
# The parents may be shared with other clusters, so they stay open.
above=''
while IFS= read -r -d / part; do
  [ -n "$part" ] || continue
  above+=/$part
  make "$above" world anyone
done <<<"${2%/*}/"
for znode in "$2" "$2/leader_election" "$2/master_status"; do
  make "$znode" sasl "$user"
  # setACL, for any version.
  begin 4 7
  string "$znode"
  acl sasl "$user"
  ints -1
  operate
done
echo "access to the znodes below $2 is restricted to the user $user"
close_session
