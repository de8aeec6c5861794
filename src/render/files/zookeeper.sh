#!/bin/bash
# Starts a ZooKeeper server in the foreground, from the jars that Spark itself brings. The server's number is the pod's
# ordinal plus one.
#
#   zookeeper.sh [quorum-auth]
#
# quorum-auth: servers of the ensemble authenticate each other, and refuse any other server.
set -eu
data="/var/spark/zookeeper"
echo "$((${HOSTNAME##*-} + 1))" >"$data/myid"
cp -f "$SPARK_CONF_DIR/zoo.cfg" "$data/zoo.cfg"
# Where pods share a machine's network, each server has an address of its own.
if [ -n "${SPARK_LOCAL_IP:-}" ]; then
  printf '%s\n' "clientPortAddress=$SPARK_LOCAL_IP" quorumListenOnAllIPs=false >>"$data/zoo.cfg"
fi
if [ "${1:-}" = quorum-auth ]; then
  # ZooKeeper defaults to FIPS mode, in which a server does not use DIGEST-MD5 to log in to another.
  { printf 'quorum.auth.%s=true\n' enableSasl learnerRequireSasl serverRequireSasl && echo fips-mode=false; } >>"$data/zoo.cfg"
fi
. "$SPARK_CONF_DIR/secret.sh"
login=$(zookeeper_login)
# An image may leave JAVA_HOME to the PATH.
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
# shellcheck disable=SC2086 # the options are several words
exec "$java" $ZOOKEEPER_JAVA_OPTS -cp "${SPARK_HOME:-/opt/spark}/jars/*" \
  -Dlog4j2.configurationFile="file:$SPARK_CONF_DIR/log4j2.properties" \
  ${login:+"-Djava.security.auth.login.config=$login"} \
  org.apache.zookeeper.server.quorum.QuorumPeerMain "$data/zoo.cfg"
