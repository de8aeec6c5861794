#!/bin/bash
# Starts a Spark worker in the foreground; the masters' URL is the argument. tini, where the image has it, reaps the
# Python workers that a killed executor leaves behind.
set -eu
export SPARK_PUBLIC_DNS="spark-${POD_IP//[.:]/-}.${POD_NAMESPACE}.${SPARKHA_UI_DOMAIN}"
init=$(command -v tini || true)
exec ${init:+"$init" --} "${SPARK_HOME:-/opt/spark}/bin/spark-class" org.apache.spark.deploy.worker.Worker \
  --properties-file "${SPARK_CONF_DIR}/worker.conf" "$1"
