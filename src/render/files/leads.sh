#!/bin/bash
# Succeeds if the web UI of a master reports that the master leads. A status code other than 200 also counts as leading: with access
# control, the state cannot be known.
#
#   leads.sh HOST PORT
set -euo pipefail
. "$SPARK_CONF_DIR/tcp.sh"
open_tcp "$1" "$2"
printf 'GET /json/status HTTP/1.0\r\nHost: %s\r\n\r\n' "$1" >&3
read -r _ code _ <&3
[ "$code" != 200 ] || grep -q '"status" *: *"ALIVE"' <&3
