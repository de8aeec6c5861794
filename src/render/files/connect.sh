#!/bin/bash
# Starts the Spark Connect server in the foreground. It is a driver in client mode: executors connect to the pod's own address.
#
#   connect.sh MASTERS    spark://HOST:PORT,…
set -eu
export SPARK_PUBLIC_DNS="spark-${POD_IP//[.:]/-}.${POD_NAMESPACE}.${SPARKHA_UI_DOMAIN}"
. "$SPARK_CONF_DIR/secret.sh"
properties=$(with_secret connect.conf spark.connect.authenticate.token)
# Where pods share the machine's network, each server binds to its own address.
exec "${SPARK_HOME:-/opt/spark}/bin/spark-submit" --class org.apache.spark.sql.connect.service.SparkConnectServer \
  --name "Spark Connect" --master "$1" --properties-file "$properties" \
  --conf "spark.driver.host=${POD_IP}" --conf "spark.driver.bindAddress=${POD_IP}" \
  ${SPARK_LOCAL_IP:+--conf "spark.connect.grpc.binding.address=$SPARK_LOCAL_IP"}
