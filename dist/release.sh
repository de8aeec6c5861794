#!/bin/bash
# release.sh X.Y.Z: makes a release of the last commit, as far as it can be made without publishing anything: checks, tests, raises the version,
# builds twice in two folders and compares the bytes, signs the checksums, commits and tags. A failed release changes neither
# the tree nor its branch.
#
# SPARKHA_SIGNING_KEY has the private key that signs (dist/sign.sh). SKIP_TESTS=yes leaves out the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
refuse() { printf 'release: %s\n' "$1" >&2 && exit 2; }

version=${1:-} tag=v${1:-}
[[ $version =~ ^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$ ]] || refuse "give the version, such as: make release VERSION=1.2.3"
[ -z "$(git status --porcelain)" ] || refuse "the tree is not clean: commit or remove what 'git status' lists"
git symbolic-ref -q HEAD >/dev/null || refuse "no branch is checked out: a release is a commit on a branch"
! git rev-parse -q --verify "refs/tags/$tag" >/dev/null || refuse "there is a tag $tag already"
higher() { [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort -V | tail -n 1)" = "$1" ]; }
current=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
released=$(sed -n 's/^## \[\([0-9][^]]*\)\].*/\1/p' CHANGELOG.md | head -n 1)
# Before its first release, Cargo.toml already has its version.
[ "$current" = "$version" ] || higher "$version" "$current" || refuse "$version is not higher than $current in Cargo.toml"
[ -z "$released" ] || higher "$version" "$released" || refuse "$version is not higher than $released, the last release in CHANGELOG.md"
dist/notes.sh Unreleased | grep -q '[^[:space:]]' || refuse "CHANGELOG.md has nothing under Unreleased"
dist/sign.sh || refuse "it cannot be signed"
key=$SPARKHA_SIGNING_KEY
# Nothing that is built or tested sees it.
unset SPARKHA_SIGNING_KEY

[ "${SKIP_TESTS:-}" = yes ] || make test

work=$(mktemp -d)
end() {
  git worktree remove --force "$work/first" 2>/dev/null || true
  git worktree remove --force "$work/second" 2>/dev/null || true
  rm -rf "$work"
}
trap end EXIT
git worktree add -q --detach "$work/first"
(
  cd "$work/first"
  sed -i "0,/^version = .*/s//version = \"$version\"/" Cargo.toml
  sed -i "s/^## \[Unreleased\].*/## [Unreleased]\n\n## [$version] - $(date -u +%Y-%m-%d)/" CHANGELOG.md
  "${CARGO:-cargo}" update --quiet --offline --workspace
  make manifests
  git commit -qam "Release $version"
)
commit=$(git -C "$work/first" rev-parse HEAD)
git worktree add -q --detach "$work/second" "$commit"
for folder in first second; do
  (cd "$work/$folder" && dist/build.sh)
done
out=$work/first/target/dist
diff "$out/SHA256SUMS" "$work/second/target/dist/SHA256SUMS" || refuse "two builds of one commit differ in these files"
dist/notes.sh "$version" "$work/first/CHANGELOG.md" >"$out/NOTES.md"
SPARKHA_SIGNING_KEY=$key dist/sign.sh "$out"

git tag -a "$tag" -m "sparkha $version" "$commit"
git merge -q --ff-only "$commit" || { git tag -d "$tag" && refuse "the branch has changed meanwhile"; }
rm -rf target/dist
mkdir -p target
mv "$out" target/dist
cat <<TEXT
sparkha $version is committed and tagged here, and is in target/dist. Nothing is published yet:

  git push --follow-tags
  gh release create $tag --verify-tag --notes-file target/dist/NOTES.md target/dist/*
TEXT
