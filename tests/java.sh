#!/bin/sh
# Java as tests use it, for Spark's servers and jobs with the classes in an archive (archive.sh). The archive holds for a class path that
# begins as its own does, so the folder with the configuration, which Spark puts first, comes last. The JVM's best compiler would cost short
# jobs a third of the processor time and never earn it. An archive is mapped where it was made: elsewhere, as Debian's JVM would for safety,
# each JVM copies and changes its 190 MB. What is between @ is put in where this is installed.
set -- -XX:TieredStopAtLevel=1 "$@"
class_path=$(echo '@SPARK@'/jars/slf4j-api-*.jar):@SPARK@/jars/*
count=$#
archive=
for argument; do
  case $argument in
  *":$class_path") argument=$class_path:${argument%":$class_path"} archive='@ARCHIVE@' ;;
  esac
  set -- "$@" "$argument"
done
shift "$count"
exec '@JAVA@' ${archive:+-Xlog:cds=off -XX:+UnlockDiagnosticVMOptions -XX:ArchiveRelocationMode=0 "-XX:SharedArchiveFile=$archive"} "$@"
