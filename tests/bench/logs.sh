#!/bin/bash
# What `sparkha submit` shows of jobs whose node cannot be reached for a while: the way from the API server to the kubelet is cut for each of CUTS (seconds), over
# three jobs at once: one whose first line is not written yet, one in its midst, and one that ends meanwhile. Every line should come once and in order, and
# the job's exit code with them.
#
#   tests/bench/logs.sh PATH-OF-SPARKHA      (CUTS="5 75 300"; needs the testbed, and root)
set -euo pipefail
sparkha=$(realpath "$1")
work=$(mktemp -d)
namespace=bench-logs
table=sparkha_bench_logs

uncut() { nft delete table inet $table 2>/dev/null || true; }
cut_off() {
  nft -f - <<END
table inet $table {
  chain cut {
    type filter hook output priority 0
    tcp dport 10250 drop
    tcp sport 10250 drop
  }
}
END
}
finish() {
  uncut
  "$sparkha" teardown -n "$namespace" --yes >/dev/null 2>&1 || true
  kubectl delete namespace "$namespace" --ignore-not-found >/dev/null
  rm -rf "$work"
}
trap finish EXIT

# Two lines a second: as many as told, or until 2 s after it is told to end.
cat >"$work/job.py" <<'END'
import os, sys, time
number, last = 0, int(sys.argv[1])
while number < last:
    if os.path.exists("/tmp/end"):
        last = min(last, number + 4)
        os.remove("/tmp/end")
    print("line", number, flush=True)
    number += 1
    time.sleep(0.5)
print("lines", number, flush=True)
sys.exit(7)
END

# submit MOMENT LINES
submit() {
  "$sparkha" submit -n "$namespace" -- "$work/job.py" "$2" >"$work/$1.out" 2>"$work/$1.err" && code=0 || code=$?
  echo "$code $(date +%s)" >"$work/$1.end"
}
# until_in FILE PATTERN
until_in() { until grep -q "$2" "$work/$1"; do sleep 0.05; done; }
driver_of() { grep -o 'spark-driver-[0-9a-f]*' "$work/$1.err" | head -1; }

# told MOMENT SECONDS BACK
told() {
  local code ended lines missing
  read -r code ended <"$work/$1.end"
  lines=$(awk '/^lines /{print $2}' "$work/$1.out")
  missing=$(diff <(seq -f "line %g" 0 $((${lines:-0} - 1))) <(grep '^line ' "$work/$1.out") | grep -c '^[<>]' || true)
  printf '%4s s %-17s %4s of %4s lines, %3s missing or repeated, exit code %3s, %3s s after the way was back%s\n' "$2" "$1" \
    "$(grep -c '^line ' "$work/$1.out" || true)" "${lines:-?}" "$missing" "$code" "$((ended - $3))" \
    "$([ "${lines:-?}/$missing/$code" = "${lines:-0}/0/7" ] || echo '  WRONG')"
}

"$sparkha" create -n "$namespace" --masters 1 --workers 1 >/dev/null 2>&1
for seconds in ${CUTS:-5 75 300}; do
  rm -f "$work"/*.out "$work"/*.err "$work"/*.end
  # These go on for a while after the way is back.
  submit midst $(((seconds + 40) * 2)) &
  submit end 100000 &
  until [ -e "$work/midst.out" ] && [ -e "$work/end.out" ]; do sleep 0.05; done
  until_in midst.out '^line 5$'
  until_in end.out '^line 5$'
  submit begin $(((seconds + 15) * 2)) &
  until [ -e "$work/begin.err" ]; do sleep 0.05; done
  until_in begin.err 'Driver *runs'
  kubectl -n "$namespace" exec "$(driver_of end)" -- touch /tmp/end
  cut_off
  sleep "$seconds"
  uncut
  back=$(date +%s)
  wait
  for moment in begin midst end; do told "$moment" "$seconds" "$back"; done
  # shellcheck disable=SC2015  # For a look at what went wrong.
  [ -z "${SHOW:-}" ] || { grep -h '^[!✓]\|^error\|^  *help' "$work"/*.err || true; }
done
