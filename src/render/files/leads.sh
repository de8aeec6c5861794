#!/bin/bash
# Whether a master leads, by its web UI; also where that does not tell everybody, for then nobody can know.
#
#   leads.sh HOST PORT
set -euo pipefail
. "$SPARK_CONF_DIR/tcp.sh"
open_tcp "$1" "$2"
printf 'GET /json/ HTTP/1.0\r\nHost: %s\r\n\r\n' "$1" >&3
read -r _ code _ <&3
[ "$code" != 200 ] || grep -q '"status" *: *"ALIVE"' <&3
