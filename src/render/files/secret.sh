# Source this file. It reads the secrets with which the cluster's components authenticate each other from mounted files. Only this user
# can read the files made from them, which are in memory or on the node, like the Secret itself.

# secret_in FILE: prints the secret in FILE. Fails if FILE is empty or still has the placeholder.
secret_in() {
  # Split in two, so that replacing the placeholder throughout a manifest does not change this script.
  local value placeholder=REPLACE
  value=$(cat "$1")
  if [ -z "$value" ] || [ "$value" = "$placeholder-ME" ]; then
    echo "$1 still has its placeholder: put a random text into the Secret that is mounted there" >&2
    return 1
  fi
  printf %s "$value"
}

# with_secret FILE KEY…: copies a properties file, adds Spark's secret and the KEYs that the Secret has, and prints the path of the copy.
# Without a Secret it prints the path of the properties file itself.
with_secret() {
  local value key file="/tmp/$1" secrets=''
  if [ -e "/etc/spark-tls/tls.crt" ]; then
    # With PEM files, Spark trusts the certificates in this file. It includes the CA, so that pods with an old and a renewed certificate
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

# zookeeper_login: prints the path of a JAAS file for ZooKeeper's clients and servers, and for the quorum of servers. Prints nothing if
# there is no password.
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
    for section in Server QuorumServer; do
      printf '%s { %s required %s="%s"; };\n' "$section" "$module" "user_$user" "$password"
    done >"$file"
    for section in Client QuorumLearner; do
      printf '%s { %s required username="%s" password="%s"; };\n' "$section" "$module" "$user" "$password"
    done >>"$file"
  )
  printf '%s\n' "$file"
}
