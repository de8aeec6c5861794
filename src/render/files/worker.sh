#!/bin/bash
# Starts a Spark worker in the foreground; the masters' URL is the argument. tini, where the image has it, reaps the
# Python workers that a killed executor leaves behind.
set -eu
export SPARK_PUBLIC_DNS="spark-${POD_IP//[.:]/-}.${POD_NAMESPACE}.${SPARKHA_UI_DOMAIN}"
# A leader that recovers calls the workers that it remembers by their addresses. One that was started anew meanwhile would
# answer for its former self, take itself for registered, and never get work: so each start has another of four ports.
starts=$(cat "$SPARK_WORKER_DIR/starts" 2>/dev/null || echo 0)
echo "$((starts + 1))" >"$SPARK_WORKER_DIR/starts"
export SPARK_WORKER_PORT="$((SPARK_WORKER_PORT + starts % 4))"
. "$SPARK_CONF_DIR/secret.sh"
properties=$(with_secret worker.conf)
init=$(command -v tini || true)
exec ${init:+"$init" --} "${SPARK_HOME:-/opt/spark}/bin/spark-class" org.apache.spark.deploy.worker.Worker \
  --properties-file "$properties" "$1"
