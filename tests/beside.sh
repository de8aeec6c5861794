#!/bin/bash
# Runs a command at the lowest priority, in a session of its own: beside.sh COMMAND… Its process number is also that of its process group.
# Linux may share processors among sessions first: then nice counts within the session only, and the session has its own.
# shellcheck disable=SC2016 # $$ is the new shell's
exec setsid nice -n 19 bash -c '{ echo 19 >"/proc/$$/autogroup"; } 2>/dev/null || true
  exec "$@"' beside "$@"
