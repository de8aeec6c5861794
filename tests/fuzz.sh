#!/bin/bash
# fuzz.sh SECONDS [TARGET…]: runs each fuzz target (fuzz/fuzz_targets) on its corpus, and then looks for new inputs for so long. What it finds is kept
# in fuzz/target/corpus, inputs that fail in fuzz/artifacts. With 0 seconds, it only runs the corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
shift
cargo_fuzz=$(tests/tool.sh cargo-fuzz 0.13.2)
[ $# -gt 0 ] || mapfile -t targets < <("$cargo_fuzz" fuzz list)
limit=(-max_total_time="$seconds")
[ "$seconds" != 0 ] || limit=(-runs=0)
for target in "${@:-${targets[@]}}"; do
  found=fuzz/target/corpus/$target
  mkdir -p "$found"
  # Without a sanitizer, for which the stable compiler suffices: safe Rust has no faults of memory that one would find.
  "$cargo_fuzz" fuzz run --sanitizer none "$target" "$found" "fuzz/corpus/$target" -- "${limit[@]}" -timeout=120 -max_len=4096
done
