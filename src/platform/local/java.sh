#!/bin/sh
# java for Spark's servers on this machine, with their classes in an archive. An archive holds for a class path that begins as its own does,
# and has no folders in it. So the folder with the configuration, which Spark puts first, comes last here.
java=@JAVA@ spark=@SPARK@
archive=
for argument; do
  case $argument in
  # A JVM that only prints the command of the next one.
  org.apache.spark.launcher.Main) break ;;
  org.apache.spark.deploy.master.Master) archive=master ;;
  org.apache.spark.deploy.worker.Worker) archive=worker ;;
  org.apache.zookeeper.server.quorum.QuorumPeerMain) archive=zookeeper ;;
  esac
done
[ -n "$archive" ] || exec "$java" "$@"

class_path=$(echo "$spark"/jars/slf4j-api-*.jar):$spark/jars/*
count=$#
for argument; do
  case $argument in
  *":$class_path") argument=$class_path:${argument%":$class_path"} ;;
  esac
  set -- "$@" "$argument"
done
shift "$count"
# An archive of another JVM, or of other jars, is left aside without a word. Mapped where it was made, it is in memory once for all servers:
# elsewhere, as JVMs do by default for safety, each copies and changes it.
exec "$java" -Xlog:cds=off -Xlog:cds+dynamic=off -XX:+UnlockDiagnosticVMOptions -XX:ArchiveRelocationMode=0 \
  "-XX:SharedArchiveFile=${0%/bin/java}/$archive.jsa" "$@"
