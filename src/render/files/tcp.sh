# Source this file.

# open_tcp HOST PORT: opens a connection as file descriptor 3.
open_tcp() {
  local host=$1 address names
  # Where pods share a machine, this file maps their names to addresses.
  if [ -n "${SPARKHA_HOSTS_FILE:-}" ]; then
    while read -r address names; do
      case " $names " in *" $host "*) host=$address && break ;; esac
    done <"$SPARKHA_HOSTS_FILE"
  fi
  exec 3<>"/dev/tcp/$host/$2"
}
