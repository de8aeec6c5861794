# The secrets by which the parts of the cluster know each other, read from mounted files; to be sourced. What is made of them is
# readable by this user alone, and lies in memory or on the node, where the Secret lies too.

# secret_in FILE: what it has, if that is not what stands for a secret.
secret_in() {
  # In two words: whoever replaces it in a manifest would replace it here, too.
  local value placeholder=REPLACE
  value=$(cat "$1")
  if [ -z "$value" ] || [ "$value" = "$placeholder-ME" ]; then
    echo "$1 still has its placeholder: put a random text into the Secret that is mounted there" >&2
    return 1
  fi
  printf %s "$value"
}

# with_secret FILE KEY…: a copy of a properties file that also has Spark's secret, and other keys of the Secret if they are there.
with_secret() {
  local value key file="/tmp/$1" secrets=''
  if [ -e "/etc/spark-tls/tls.crt" ]; then
    # With PEM files Spark trusts the certificates in this file. The CA is among them, so that pods with an older or a renewed certificate still
    # trust each other.
    printf '%s\n' "$(<"/etc/spark-tls/tls.crt")" "$(<"/etc/spark-tls/ca.crt")" >"/tmp/certificates.pem"
  fi
  if [ ! -e "/etc/spark-auth/spark.authenticate.secret" ]; then
    printf '%s\n' "$SPARK_CONF_DIR/$1"
    return
  fi
  for key in spark.authenticate.secret "${@:2}"; do
    [ -e "/etc/spark-auth/$key" ] || continue
    value=$(secret_in "/etc/spark-auth/$key") || return
    secrets+="$key=${value//\\/\\\\}"$'\n'
  done
  (
    umask 077
    { cat "$SPARK_CONF_DIR/$1" && printf %s "$secrets"; } >"$file.new"
  )
  mv -f "$file.new" "$file"
  printf '%s\n' "$file"
}

zookeeper_user() {
  if [ -e "/etc/zookeeper-auth/username" ]; then cat "/etc/zookeeper-auth/username"; else printf spark; fi
}

# zookeeper_login: the path of a JAAS file for ZooKeeper's clients and servers, and for servers among themselves; empty without a password.
zookeeper_login() {
  local user password file="/tmp/zookeeper-login"
  [ -e "/etc/zookeeper-auth/password" ] || return 0
  user=$(zookeeper_user)
  password=$(secret_in "/etc/zookeeper-auth/password") || return
  password=${password//\\/\\\\}
  password=${password//\"/\\\"}
  (
    umask 077
    module=org.apache.zookeeper.server.auth.DigestLoginModule
    for who in Server QuorumServer; do
      printf '%s { %s required %s="%s"; };\n' "$who" "$module" "user_$user" "$password"
    done >"$file"
    for who in Client QuorumLearner; do
      printf '%s { %s required username="%s" password="%s"; };\n' "$who" "$module" "$user" "$password"
    done >>"$file"
  )
  printf '%s\n' "$file"
}
