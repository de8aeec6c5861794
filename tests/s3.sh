#!/bin/bash
# s3.sh SPARKHA: prepares what the tests of S3 need, once, beside the Spark of tests: moto, a server that speaks S3 and checks signatures,
# and a copy of this Spark with hadoop-aws, as users add it. Prints their folders and the coordinates of hadoop-aws. Fails, and says why,
# where the packages cannot be reached.
set -euo pipefail
[ -z "${SPARKHA_CACHE:-}" ] || export XDG_CACHE_HOME=$SPARKHA_CACHE
unset SPARK_HOME SPARK_CONF_DIR
spark=$("$1" --quiet local fetch)
cache=$(dirname "$spark") version=${spark##*/spark-}

# fetch COMMAND…: registries are not always at hand.
fetch() {
  local pause log
  for pause in 5 no; do
    log=$(timeout 600 "$@" 2>&1) && return
    [ "$pause" = no ] || sleep "$pause"
  done
  printf '%s\n' "$log" | tail -n 5 >&2
  return 1
}

moto=$cache/moto-5.2.5
if [ ! -e "$moto" ]; then
  scratch=$(mktemp -d "$cache/build.XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  fetch python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --target "$scratch/moto" \
    'moto[s3]==5.2.5' flask==3.1.3 flask-cors==6.0.5
  mv "$scratch/moto" "$moto"
fi

hadoop=$(echo "$spark"/jars/hadoop-client-api-*.jar)
hadoop=${hadoop##*/hadoop-client-api-}
package=org.apache.hadoop:hadoop-aws:${hadoop%.jar}
with_s3=$cache/with-hadoop-aws/sparkha/spark-$version
if [ ! -e "$with_s3" ]; then
  mkdir -p "$(dirname "$with_s3")"
  rm -rf "$with_s3.new"
  # Links: this Spark is not changed, for other files are only added.
  cp -al "$spark" "$with_s3.new"
  mv "$with_s3.new" "$with_s3"
fi
XDG_CACHE_HOME=$cache/with-hadoop-aws fetch "$1" local fetch "$version" --packages "$package"
printf '%s\n' "$moto" "$with_s3" "$package"
