#!/bin/bash
# dist.sh: installs what `make dist` built in each way of docs/installation.md, into a clean root or environment, and runs it there: version,
# render, and create --local --dry-run. As root, on Debian or Ubuntu.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=$PWD/target/dist stage=$PWD/target/stage/sparkha
[ -e "$dist/SHA256SUMS" ] || { echo "make dist first" >&2 && exit 2; }
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
archive=$(cd "$dist" && echo sparkha-"$version"-*.tar.gz)
cache=${SPARKHA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sparkha}
demo/prepare.sh debootstrap gcc libc6-dev openssl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
way() { printf '%-36s' "$1" && ((passed += 1)); }

# A Debian with Java, Python and nothing of sparkha.
root=$cache/clean-root-1
if [ ! -e "$root" ]; then
  mkdir -p "$cache"
  scratch=$(mktemp -d "$cache/build.XXXXXX")
  # shellcheck disable=SC2016 # apt's own
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' | grep -v -e security -e updates | head -n 1)
  debootstrap --variant=minbase --include=bash-completion,default-jre-headless,procps,python3-venv bookworm "$scratch/root" \
    "$mirror" >"$scratch/log" || { tail "$scratch/log" >&2; exit 1; }
  rm -rf "$scratch"/root/var/cache/apt/* "$scratch"/root/var/lib/apt/lists/*
  mv "$scratch/root" "$root"
  rm -rf "$scratch"
fi
"$stage/sparkha" local fetch --quiet >/dev/null
spark=$(echo "${XDG_CACHE_HOME:-$HOME/.cache}"/sparkha/spark-[0-9]*[0-9])
spark=${spark##* }
"$stage/sparkha" render >"$work/rendered"

# What every way must be able to do, as $1.
cat >"$work/runs" <<'SH'
set -eu
[ "$($1 version -o name)" = "$2" ]
$1 version | grep -q '^Commit  *[0-9a-f]\{40\}'
$1 render | cmp - /work/rendered
$1 create --local --dry-run --spark-home /opt/spark >/tmp/created 2>&1 || { cat /tmp/created; exit 1; }
grep -q spark-master /tmp/created
SH

# in_root COMMAND: runs it in a copy of the clean root, without a network.
in_root() {
  # shellcheck disable=SC2016 # the inner shell's
  unshare --mount --net --pid --fork --kill-child bash -euc '
    mkdir "$5/layers" "$5/root"
    mount -t tmpfs tmpfs "$5/layers"
    mkdir "$5/layers/upper" "$5/layers/work"
    mount -t overlay -o "lowerdir=$1,upperdir=$5/layers/upper,workdir=$5/layers/work" overlay "$5/root"
    cd "$5/root"
    mkdir dist work opt/spark
    mount --bind "$2" dist
    mount --bind "$3" opt/spark
    mount --bind "$5" work
    mount -t proc proc proc
    mount --rbind /dev dev
    ip link set lo up 2>/dev/null || true
    exec chroot . env -i HOME=/root PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin bash -euc "$4"' - "$root" "$dist" "$spark" "$1" "$work"
  rmdir "$work/layers" "$work/root"
}

way "the checksums"
(cd "$dist" && sha256sum --check --quiet SHA256SUMS)
echo passed

way "pip install sparkha"
in_root "python3 -m venv /venv && /venv/bin/pip install --quiet --no-index --find-links /dist sparkha
  bash /work/runs /venv/bin/sparkha $version"
echo passed

way "uvx sparkha"
cp "$(tests/tool.sh uv 0.13.9)" "$work/uv"
in_root "bash /work/runs '/work/uv tool run --quiet --offline --no-index --find-links /dist sparkha' $version"
echo passed

way "the archive"
in_root "tar xzf /dist/$archive -C /opt && cd /opt/sparkha-* && bash /work/runs ./sparkha $version
  ls completions/sparkha.bash completions/_sparkha completions/sparkha.fish man/man1/sparkha-create.1 LICENSE README.md sparkha.cdx.json >/dev/null"
echo passed

way "the archive in an empty root"
mkdir -p "$work/empty/lib" "$work/empty/etc"
tar xzf "$dist/$archive" -C "$work/empty" --strip-components=1 --wildcards '*/sparkha'
[ "$(chroot "$work/empty" /sparkha version -o name)" = "$version" ]
chroot "$work/empty" /sparkha render | cmp - "$work/rendered"
# There is neither Java nor Spark, and that is what it says.
code=0
chroot "$work/empty" /sparkha create --local --dry-run 2>"$work/said" || code=$?
[ "$code" = 8 ] && grep -q 'there is no Java' "$work/said" && grep -q 'sparkha local fetch' "$work/said"
echo passed

way "names are resolved without modules"
# A module of another glibc crashes a static program that loads it, and so does this one.
printf '__attribute__((constructor)) static void crash(void) { __builtin_trap(); }\n' >"$work/module.c"
cc -shared -fPIC -nostdlib -o "$work/empty/lib/libnss_module.so.2" "$work/module.c"
echo 'hosts: module files dns' >"$work/empty/etc/nsswitch.conf"
echo '127.0.0.1 kubernetes.test' >"$work/empty/etc/hosts"
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/ca.key" -out "$work/empty/ca.pem" -subj /CN=ca 2>/dev/null
printf 'clusters: [{name: a, cluster: {server: "https://kubernetes.test:1", certificate-authority: /ca.pem}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {}}]\ncurrent-context: a\n' >"$work/empty/kubeconfig"
code=0
chroot "$work/empty" /sparkha list --kubeconfig /kubeconfig >"$work/said" 2>&1 || code=$?
grep -q refused "$work/said" || { cat "$work/said" && exit 1; }
# A static program without dist/nss.c does load it.
printf '#include <netdb.h>\nint main(void) { struct addrinfo *a; return getaddrinfo("kubernetes.test", 0, 0, &a); }\n' >"$work/loads.c"
cc -static -o "$work/empty/loads" "$work/loads.c" 2>/dev/null
if (chroot "$work/empty" /loads; exit $?) 2>/dev/null; then
  echo "it was not loaded" && exit 1
fi
echo passed

way "cargo install"
"${CARGO:-cargo}" install --quiet --locked --path . --root "$work/cargo" --target-dir target
in_root "cp /work/cargo/bin/sparkha /usr/local/bin/ && bash /work/runs sparkha $version"
echo passed

way "cargo binstall"
template=$(sed -n 's/^pkg-url = ".*\/\(.*\)"$/\1/p' Cargo.toml)
template=${template//'{ name }'/sparkha} template=${template//'{ version }'/$version}
[ "${template//'{ target }'/$(rustc -vV | sed -n 's/^host: //p')}" = "$archive" ]
echo passed

way "the Debian package"
in_root "dpkg --install /dist/sparkha_*.deb >/dev/null && bash /work/runs sparkha $version
  dpkg --verify sparkha && [ \"\$(kubectl_complete-sparkha cr | tail -n 1)\" = :4 ]
  cd /usr/share && ls bash-completion/completions/sparkha zsh/vendor-completions/_sparkha fish/vendor_completions.d/sparkha.fish >/dev/null
  ls man/man1/sparkha-create.1.gz doc/sparkha/copyright doc/sparkha/changelog.Debian.gz >/dev/null
  dpkg --purge sparkha >/dev/null && ! command -v sparkha"
echo passed

way "kubectl sparkha"
kubectl=$(find "$cache" -maxdepth 2 -name kubectl -path '*/kubernetes-*' | sort -V | tail -n 1)
if krew=$(tests/gotool.sh krew) && [ -n "$kubectl" ]; then
  cp -L "$kubectl" "$work/kubectl"
  cp "$krew" "$work/krew"
  in_root "cd /work && export PATH=/root/.krew/bin:/work:\$PATH
    ./krew install --manifest=/dist/sparkha.yaml --archive=/dist/$archive >/tmp/said 2>&1 || { cat /tmp/said; exit 1; }
    ln -s kubectl-sparkha /root/.krew/bin/kubectl_complete-sparkha
    [ \"\$(kubectl sparkha version -o name)\" = $version ]
    kubectl sparkha render | cmp - rendered
    kubectl sparkha create --local --dry-run --spark-home /opt/spark >/dev/null 2>&1
    kubectl sparkha status -h | grep -q 'Usage: kubectl sparkha status'
    # kubectl 1.26 and later ask for candidates.
    kubectl version --client 2>/dev/null | grep -q 'v1.2[0-5]' || kubectl __complete sparkha cr 2>/dev/null | grep -q ^create"
  echo passed
else
  echo "not run: it needs Go for krew, and kubectl of the testbed"
  ((passed -= 1))
fi

way "the image"
mkdir "$work/image"
tar xOf "$dist/sparkha-$version-image.tar" layer.tar | tar x -C "$work/image"
tar xOf "$dist/sparkha-$version-image.tar" config.json >"$work/config.json"
[ "$(find "$work/image" -type f)" = "$work/image/usr/local/bin/sparkha" ]
python3 - "$work/config.json" "$version" <<'PYTHON'
import json, sys
config = json.load(open(sys.argv[1]))["config"]
assert config["User"] == "65532:65532" and config["Entrypoint"] == ["/usr/local/bin/sparkha"], config
assert config["Labels"]["org.opencontainers.image.version"] == sys.argv[2], config
PYTHON
chroot --userspec=65532:65532 "$work/image" /usr/local/bin/sparkha render | cmp - "$work/rendered"
echo passed

echo "$passed passed, 0 failed"
