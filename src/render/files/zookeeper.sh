#!/bin/bash
# Starts a ZooKeeper server in the foreground, from Spark's own jars. The server's ID is the pod's ordinal plus one.
#
#   zookeeper.sh [quorum-auth]
#
# quorum-auth: the servers of the ensemble authenticate each other and refuse all other servers.
set -eu
data="/var/spark/zookeeper"
echo "$((${HOSTNAME##*-} + 1))" >"$data/myid"
cp -f "$SPARK_CONF_DIR/zoo.cfg" "$data/zoo.cfg"
# Where pods share the machine's network, each server binds to its own address.
if [ -n "${SPARK_LOCAL_IP:-}" ]; then
  printf '%s\n' "clientPortAddress=$SPARK_LOCAL_IP" quorumListenOnAllIPs=false >>"$data/zoo.cfg"
fi
if [ "${1:-}" = quorum-auth ]; then
  # ZooKeeper defaults to FIPS mode, in which servers do not use DIGEST-MD5 between each other.
  { printf 'quorum.auth.%s=true\n' enableSasl learnerRequireSasl serverRequireSasl && echo fips-mode=false; } >>"$data/zoo.cfg"
fi
. "$SPARK_CONF_DIR/secret.sh"
login=$(zookeeper_login)
# Some images have no JAVA_HOME, but java on the PATH.
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
# shellcheck disable=SC2086 # the options are several words
exec "$java" $ZOOKEEPER_JAVA_OPTS -cp "${SPARK_HOME:-/opt/spark}/jars/*" \
  -Dlog4j2.configurationFile="file:$SPARK_CONF_DIR/log4j2.properties" \
  ${login:+"-Djava.security.auth.login.config=$login"} \
  org.apache.zookeeper.server.quorum.QuorumPeerMain "$data/zoo.cfg"
