# with_secret FILE: a copy of a properties file that also has the secret by which the parts of the cluster know each other. The
# copy is readable by this user alone, and lies in memory or on the node, where the Secret lies too.
with_secret() {
  local value file="/tmp/$1"
  if [ ! -e "/etc/spark-auth/spark.authenticate.secret" ]; then
    printf '%s\n' "$SPARK_CONF_DIR/$1"
    return
  fi
  value=$(cat "/etc/spark-auth/spark.authenticate.secret")
  if [ -z "$value" ] || [ "$value" = REPLACE-ME ]; then
    echo "The Secret mounted at /etc/spark-auth still has its placeholder: put a random text into its key spark.authenticate.secret" >&2
    return 1
  fi
  (
    umask 077
    { cat "$SPARK_CONF_DIR/$1" && printf 'spark.authenticate.secret=%s\n' "${value//\\/\\\\}"; } >"$file.new"
  )
  mv -f "$file.new" "$file"
  printf '%s\n' "$file"
}
