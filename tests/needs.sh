# shellcheck shell=bash # sourced
# Tests that need what a machine or a cluster may not have. `tests` is nextest's filter of those that run.

# leave_out TESTS WHY: takes those whose names begin so from the filter, and says it.
leave_out() {
  printf 'not run: %s: %s\n' "$1" "$2" >&2
  tests+=" - test(/^$1/)"
}

# needs TESTS COMMAND…: leaves these tests out if the command, which prepares what they need, fails.
needs() {
  local why
  why=$("${@:2}" 2>&1 >/dev/null) || leave_out "$1" "$why"
}
