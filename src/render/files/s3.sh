#!/bin/bash
# s3.sh COMMAND…: writes the keys of the S3-compatible store to the file that AWS's SDKs read, and runs the command. So the keys are in
# no environment, argument or configuration. Only this user can read the file, which is in memory or on the node, like the Secret itself.
set -eu
(
  umask 077
  {
    echo "[default]"
    for key in aws_access_key_id aws_secret_access_key; do
      value=$(cat "/etc/s3-keys/$key")
      if [ -z "$value" ] || [[ $value =~ [[:space:]] ]]; then
        echo "$key is empty or contains white space: correct the Secret that s3.secret of the cluster file names" >&2
        exit 1
      fi
      echo "$key=$value"
    done
  } >"/tmp/s3-credentials.new"
)
mv -f "/tmp/s3-credentials.new" "/tmp/s3-credentials"
exec "$@"
