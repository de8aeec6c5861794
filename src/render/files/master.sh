#!/bin/bash
# Starts a Spark master in the foreground. Its JVM replaces this shell and so receives the pod's signals;
# whatever it exits with, the kubelet starts it again (a master whose leadership was revoked exits with 0).
set -eu
export SPARK_PUBLIC_DNS="spark-${POD_IP//[.:]/-}.${POD_NAMESPACE}.${SPARKHA_UI_DOMAIN}"
. "$SPARK_CONF_DIR/secret.sh"
properties=$(with_secret master.conf)
exec "${SPARK_HOME:-/opt/spark}/bin/spark-class" org.apache.spark.deploy.master.Master \
  --properties-file "$properties"
