#!/bin/bash
# measured.sh PROGRAM ARGUMENTS…: how nextest starts a test. Writes a line to the file SPARKHA_TIMES: how long it took, the processor time of
# all that it started, the processor time of the testbed's node meanwhile, its name. A control group of its own counts that, and holds
# what the test must not leave behind: what is still there shortly after its end is ended, and the test has failed.
set -uo pipefail
name=${NEXTEST_TEST_NAME:-} file=${SPARKHA_TIMES:-}
[ -n "$name" ] && [ -n "$file" ] || exec "$@"

if [ -e /sys/fs/cgroup/cgroup.procs ]; then
  hierarchy=/sys/fs/cgroup
  used() { awk '/^usage_usec/ { printf "%.1f", $2 / 1e6 }' "$1/cpu.stat"; }
else
  hierarchy=/sys/fs/cgroup/cpuacct
  used() { awk '{ printf "%.1f", $1 / 1e9 }' "$1/cpuacct.usage"; }
fi
group=$hierarchy/sparkha-test-$$ node=$hierarchy/sparkha-testbed
node() { [ ! -d "$node" ] || used "$node"; }
# Not as root, or in a container without: nothing is measured.
mkdir "$group" 2>/dev/null || exec "$@"

# nextest tells the whole process group to end when the time is over.
trap : TERM INT
began=$EPOCHREALTIME before=$(node)
(echo "$BASHPID" >"$group/cgroup.procs" && exec "$@")
code=$?
awk -v began="$began" -v ended="$EPOCHREALTIME" -v used="$(used "$group")" -v before="$before" -v after="$(node)" -v name="$name" \
  'BEGIN { printf "%.1f\t%s\t%s\t%s\n", ended - began, used, after == "" || after < before ? "" : sprintf("%.1f", after - before), name }' >>"$file"

# emptied: succeeds once all processes have ended, within 15 s: a shell that was ended may have been sleeping.
emptied() {
  local attempt
  for attempt in {1..150}; do
    rmdir "$group" 2>/dev/null && return
    sleep 0.1
  done
  return 1
}
emptied && exit "$code"
echo "left behind:" >&2
while read -r pid; do
  { tr '\0' ' ' <"/proc/$pid/cmdline" && echo; } >&2
  kill -KILL "$pid"
done <"$group/cgroup.procs" 2>/dev/null
emptied
exit "$((code == 0 ? 1 : code))"
