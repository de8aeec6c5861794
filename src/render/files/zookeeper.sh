#!/bin/bash
# Starts a ZooKeeper server in the foreground, from the jars that Spark itself brings. The server's number is the pod's
# ordinal plus one.
set -eu
data=/var/spark/zookeeper
echo "$((${HOSTNAME##*-} + 1))" >"$data/myid"
# An image may leave JAVA_HOME to the PATH.
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
# shellcheck disable=SC2086 # the options are several words
exec "$java" $ZOOKEEPER_JAVA_OPTS -cp "${SPARK_HOME:-/opt/spark}/jars/*" \
  -Dlog4j2.configurationFile="file:$SPARK_CONF_DIR/log4j2.properties" \
  org.apache.zookeeper.server.quorum.QuorumPeerMain "$SPARK_CONF_DIR/zoo.cfg"
