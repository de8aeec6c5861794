#!/bin/bash
# run.sh ARGUMENTS…: runs tests with cargo-nextest, each in a process of its own, and tells what each took:
#
#   tests/run.sh -E 'test(/^local::router/)'
#   tests/run.sh two_clusters_side_by_side --no-capture
#
# Eight slots for each processor; .config/nextest.toml says how many a test takes.
set -uo pipefail
cd "$(dirname "$0")/.."

nextest=$(tests/tool.sh cargo-nextest 0.9.148) || exit
# Of all runs with this name: target/times/local.tsv
name=${SPARKHA_TIMES:-tests}
mkdir -p target/times
times=$PWD/target/times/$name.tsv
rm -f "$times"
slots=$((8 * $(nproc)))
# Clusters take memory, too.
((slots <= 32)) || slots=32
runner=CARGO_TARGET_$(rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)_RUNNER
env "$runner=$PWD/tests/measured.sh" SPARKHA_TIMES="$times" "$nextest" nextest run --locked --test-threads "$slots" "$@"
code=$?
[ ! -e "$times" ] || sort -t$'\t' -k1,1rn "$times" | awk -F'\t' -v file="target/times/$name.tsv" '
  BEGIN { printf "\n%8s %10s %8s  %s\n", "seconds", "processor", "node", "test" }
  $1 >= 1 { printf "%8.1f %10s %8s  %s\n", $1, $2, $3, $4 }
  { tests++; seconds += $1; processor += $2 }
  END { printf "%8.1f %10.1f %8s  all %d, those below 1 s are in %s\n", seconds, processor, "", tests, file }'
exit "$code"
