#!/bin/bash
# sign.sh FOLDER: signs the folder's SHA256SUMS with the key in SPARKHA_SIGNING_KEY, a private key as ssh-keygen writes it, without a passphrase.
# The key is in no file and in no argument: the agent gets it from standard input and keeps it in memory.
set -euo pipefail
fail() { printf 'sign: %s\n' "$1" >&2 && exit 2; }
[ -n "${SPARKHA_SIGNING_KEY:-}" ] || fail "SPARKHA_SIGNING_KEY is empty: it has the private key that signs"
key=$SPARKHA_SIGNING_KEY
unset SPARKHA_SIGNING_KEY
public=$(ssh-keygen -y -P '' -f /dev/stdin <<<"$key" 2>/dev/null) || fail "SPARKHA_SIGNING_KEY is no private key without a passphrase"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '%s\n' "$public" >"$work/key.pub"
if [ -n "${1:-}" ]; then
  rm -f "$1/SHA256SUMS.sig"
  # shellcheck disable=SC2016 # the inner shell's
  ssh-agent bash -euc 'ssh-add -q - && ssh-keygen -q -Y sign -f "$1" -n sparkha "$2"' - "$work/key.pub" "$1/SHA256SUMS" \
    <<<"$key" 2>"$work/log" || fail "the checksums could not be signed: $(cat "$work/log")"
  printf 'sparkha %s\n' "$public" >"$1/allowed_signers"
fi
