#!/bin/bash
# archive.sh JAVA SPARK ARCHIVE: writes an archive of the classes that Spark's JVMs use, which a JVM maps instead of
# reading hundreds of jars and checking what is in them. That halves what a start takes. Runs a cluster and a job to learn which they are.
# And compiles this Spark's Python modules.
set -euo pipefail
java=$1 spark=$2 archive=$3

work=$(mktemp -d)
processes=()
end() {
  kill "${processes[@]}" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap end EXIT

# tests/java.sh has the same class path.
class_path=$(echo "$spark"/jars/slf4j-api-*.jar):$spark/jars/*
address=127.77.1.1
export SPARK_HOME=$spark SPARK_LOCAL_IP=$address SPARK_PUBLIC_DNS=$address SPARK_SCALA_VERSION=2.13
PYTHONPATH=$spark/python:$(echo "$spark"/python/lib/py4j-*.zip)
export PYTHONPATH JAVA_HOME=${java%/bin/java}

# jvm NAME ARGUMENTS…: in place of this shell.
jvm() {
  exec "$java" -XX:TieredStopAtLevel=1 -XX:DumpLoadedClassList="$work/$1.classes" --add-modules=jdk.incubator.vector -cp "$class_path" "${@:2}"
}

# until_says NAME TEXT: waits for a line in its log.
until_says() {
  for _ in {1..600}; do
    grep -q "$2" "$work/$1.log" 2>/dev/null && return
    sleep 0.1
  done
  cat "$work/$1.log" >&2
  exit 1
}

printf '%s\n' "clientPort=21811" "clientPortAddress=$address" "dataDir=$work/data" admin.enableServer=false >"$work/zoo.cfg"
jvm zookeeper org.apache.zookeeper.server.quorum.QuorumPeerMain "$work/zoo.cfg" >"$work/zookeeper.log" 2>&1 &
processes+=($!)
jvm master -Dspark.deploy.recoveryMode=ZOOKEEPER -Dspark.deploy.zookeeper.url=$address:21811 \
  org.apache.spark.deploy.master.Master --host $address --port 17077 --webui-port 18088 >"$work/master.log" 2>&1 &
processes+=($!)
jvm worker org.apache.spark.deploy.worker.Worker --host $address --webui-port 18089 --cores 1 --memory 1g --work-dir "$work/work" \
  spark://$address:17077 >"$work/worker.log" 2>&1 &
processes+=($!)
until_says worker 'Successfully registered'
cat >"$work/job.py" <<'END'
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
assert spark.sparkContext.parallelize(range(9), 2).map(lambda n: (n % 3, n)).reduceByKey(lambda a, b: a + b).count() == 3
assert spark.range(9).groupBy().sum().first()[0] == 36
spark.stop()
END
(jvm driver org.apache.spark.deploy.SparkSubmit --master spark://$address:17077 --conf spark.executor.memory=600m \
  --conf "spark.executor.extraJavaOptions=-XX:DumpLoadedClassList=$work/executor.classes" "$work/job.py" >"$work/driver.log" 2>&1) ||
  { cat "$work/driver.log" >&2; exit 1; }
kill "${processes[@]}"
wait "${processes[@]}" 2>/dev/null || true
processes=()
# Threads write it without waiting for one another: a torn line would end the dump.
grep -hxE '[A-Za-z0-9_$/]+' "$work"/{master,worker,driver,executor}.classes | sort -u >"$work/classes"
"$java" -Xshare:dump -XX:SharedClassListFile="$work/classes" -XX:SharedArchiveFile="$work/archive" -cp "$class_path" >"$work/dump.log" 2>&1 ||
  { tail "$work/dump.log" >&2; exit 1; }

# Drivers and executors import them from archives, where Python keeps nothing that it compiles: 0.6 s of processor time each, and now 0.2 s.
python3 -W ignore - "$spark"/python/lib/*.zip <<'END'
import importlib._bootstrap_external as external
import importlib.util
import os
import sys
import zipfile

for path in sys.argv[1:]:
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(path + ".new", "w") as new:
        for entry in old.infolist():
            text = old.read(entry)
            if not entry.filename.endswith(".pyc"):
                new.writestr(entry.filename, text, zipfile.ZIP_DEFLATED)
            if entry.filename.endswith(".py"):
                code = compile(text, entry.filename, "exec", dont_inherit=True)
                new.writestr(entry.filename + "c", external._code_to_hash_pyc(code, importlib.util.source_hash(text), False))
    os.replace(path + ".new", path)
END
mv "$work/archive" "$archive"
