#!/bin/bash
# Runs the driver of an application. The pod's spec contains nothing of the user's: `sparkha submit` sends files, arguments and
# configuration as one archive to standard input of `driver.sh receive BYTES`, and the driver waits for them.
set -euo pipefail
cd "$SPARKHA_DRIVER_DIR"

if [ "${1:-}" = receive ]; then
  # A client that loses the connection after its last byte sends the archive again, because it does not know that it has arrived.
  [ ! -e sent ] || exit 0
  rm -rf incoming
  mkdir incoming
  # The client cannot close standard input remotely, so it passes the length.
  head -c "$2" | tar -x -f - -C incoming --no-same-owner
  (cd incoming && sha256sum --check --strict --quiet SHA256SUMS)
  mv incoming sent
  exit
fi

# `sparkha jobs` reads the exit code and the application IDs from these files, also after the driver has ended. In a pod, Kubernetes has
# the exit code, and the termination message has the IDs.
applications=$PWD/applications
[ -z "${SPARKHA_MARK_ERRORS:-}" ] || [ ! -w /dev/termination-log ] || applications=/dev/termination-log
[ -n "${SPARKHA_MARK_ERRORS:-}" ] || trap 'echo $? >exit-code' EXIT

mark=
[ -z "${SPARKHA_MARK_ERRORS:-}" ] || mark=$'\x1e'
say() { echo "${mark}sparkha: $*" >&2; }

# These marks end the log: a reader that has received both has every line. Standard output and standard error reach the log separately,
# so each has its own mark.
[ -z "${SPARKHA_MARK_ERRORS:-}" ] || trap 'printf "\x1d\x04\n"; printf "\x1d\x1e\x04\n" >&2' EXIT

trap 'exit 143' TERM INT
waited=0
until [ -e sent ]; do
  if [ "$waited" -ge "${SPARKHA_FILES_WAIT:-3000}" ]; then
    say "received no files within $((waited / 10)) s: the client that submitted this job has gone"
    exit 1
  fi
  waited=$((waited + 1))
  sleep 0.1
done

# The image may differ from the cluster's, or its tag may have moved. Executors do not work with a driver of another Spark or Python.
. "$SPARK_CONF_DIR/secret.sh"
defaults=$(with_secret spark-defaults.conf)
home=${SPARK_HOME:-/opt/spark}
expected() { [ ! -e "sent/expected-$1" ] || [ "$(cat "sent/expected-$1")" = "$2" ] || {
  say "this image has $1 $2, but the cluster has $(cat "sent/expected-$1"): use an image with the same version, or omit --image"
  exit 2
}; }
core=$(echo "$home"/jars/spark-core_*.jar)
core=${core##*/}
core=${core#spark-core_*-}
expected Spark "${core%.jar}"
if [ -e sent/expected-Python ]; then
  expected Python "$("${PYSPARK_PYTHON:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
fi

# Spark ends an application that finds no leader within a minute, and a failover on a busy machine may take longer.
. "$SPARK_CONF_DIR/until_led.sh"
until_led "$SPARKHA_MASTER_URL" 300 say "no master leads yet: the job starts when one does, or after 300 s"

# The application's configuration overrides the cluster's. Spark's log goes to standard error: standard output is the application's.
umask 077
mkdir -p conf
for file in "$SPARK_CONF_DIR"/*; do ln -sf "$file" conf/; done
rm -f conf/spark-defaults.conf conf/log4j2.properties
{
  # The image's user has no writable home directory.
  [ -z "${SPARKHA_MARK_ERRORS:-}" ] || echo "spark.jars.ivy=/tmp/ivy"
  # If the application sets one of these two properties, Spark derives the other time-outs from it, so the cluster's values are omitted.
  if grep -Eq '^[[:space:]]*spark\.(network\.timeout|executor\.heartbeatInterval)[[:space:]=:]' sent/spark.conf; then
    grep -Ev '^spark\.(storage\.blockManagerHeartbeatTimeoutMs|shuffle\.io\.connection(Creation)?Timeout)=' "$defaults" || true
  else
    cat "$defaults"
  fi
  echo
  cat sent/spark.conf
  echo
} >conf/spark-defaults.conf
# Spark applies spark.log.level only once the application has a context. Here it applies from the start.
level=$(sed -n 's/^[[:space:]]*spark\.log\.level[[:space:]=:]*//p' conf/spark-defaults.conf | tail -n 1)
{
  sed -e 's/SYSTEM_OUT/SYSTEM_ERR/' ${level:+-e "s/^rootLogger.level = .*/rootLogger.level = ${level//[^A-Za-z]/}/"} \
    "$SPARK_CONF_DIR/log4j2.properties"
  cat <<EOF

appender.applications.type = File
appender.applications.name = applications
appender.applications.fileName = $applications
appender.applications.layout.type = PatternLayout
appender.applications.layout.pattern = %replace{%m}{.* }{}%n
appender.applications.filter.connected.type = RegexFilter
appender.applications.filter.connected.regex = Connected to Spark cluster with app ID .*

logger.backend.name = org.apache.spark.scheduler.cluster.StandaloneSchedulerBackend
logger.backend.appenderRef.applications.ref = applications
EOF
  # The logger inherits the root's level, which may suppress the line with the ID. So this logger stays at info, and the level applies
  # to its console output only.
  [ -z "$level" ] || cat <<EOF
logger.backend.level = info
logger.backend.additivity = false
logger.backend.appenderRef.stdout.ref = console
logger.backend.appenderRef.stdout.filter.threshold.type = ThresholdFilter
logger.backend.appenderRef.stdout.filter.threshold.level = $level
EOF
} >conf/log4j2.properties
export SPARK_CONF_DIR=$PWD/conf
export SPARK_PUBLIC_DNS="spark-${POD_IP//[.:]/-}.${POD_NAMESPACE}.${SPARKHA_UI_DOMAIN}"
umask 022

mapfile -d '' arguments <sent/arguments
submit=("$home/bin/spark-submit" --master "$SPARKHA_MASTER_URL" --deploy-mode client
  --conf "spark.driver.host=$POD_IP" --conf "spark.driver.bindAddress=$POD_IP" "${arguments[@]}")

# This shell stays the parent process, to record the exit code. In a container, standard output and standard error share one log, so sed
# begins each line of standard error with an invisible mark. The container ends with its first process, so this shell waits for sed:
# otherwise the last lines would be lost.
marker=
if [ -n "${SPARKHA_MARK_ERRORS:-}" ]; then
  exec {errors}> >(trap '' TERM INT; exec sed -u $'s/^/\x1e/' >&2)
  marker=$!
else
  exec {errors}>&2
fi
"${submit[@]}" 2>&"$errors" {errors}>&- &
job=$!
exec {errors}>&-
trap 'kill -TERM "$job" 2>/dev/null || true' TERM INT
while :; do
  code=0
  wait "$job" || code=$?
  kill -0 "$job" 2>/dev/null || break
done
if [ -n "$marker" ]; then
  # A process that the job left behind may keep standard error open. The marker ignores SIGTERM, so only SIGKILL ends it.
  (sleep 2 && kill -KILL "$marker") 2>/dev/null &
  wait "$marker" || true
fi
exit "$code"
