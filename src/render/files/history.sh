#!/bin/bash
# Starts the history server in the foreground.
set -eu
export SPARK_PUBLIC_DNS="${HOSTNAME%-*}.${POD_NAMESPACE}.${SPARKHA_UI_DOMAIN}"
exec "${SPARK_HOME:-/opt/spark}/bin/spark-class" org.apache.spark.deploy.history.HistoryServer \
  --properties-file "${SPARK_CONF_DIR}/history.conf"
