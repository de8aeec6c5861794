# shellcheck shell=bash disable=SC2154 # sourced by testbed.sh, which sets the variables
# What has to be installed and built before a node can start. Every artefact is made in a scratch folder and moved to its
# place when it is complete, so an interrupted build is simply done again.

# shellcheck source=../../dist/image.sh
. "$here/../../dist/image.sh"

packages=(
  ca-certificates conntrack containerd containernetworking-plugins curl debootstrap dnsmasq-base dpkg-dev e2fsprogs etcd-server
  gcc golang-1.19-go iproute2 iptables libc6-dev libfaketime nftables openssl procps python3 python3-pip runc util-linux
)

install_packages() {
  if dpkg-query -W -f '${db:Status-Status}\n' "${packages[@]}" 2>/dev/null | grep -c '^installed' |
    grep -qx "${#packages[@]}"; then
    return
  fi
  say "installing Debian packages"
  export DEBIAN_FRONTEND=noninteractive
  retry apt-get update -qq
  retry apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

build_all() {
  mkdir -p "$cache"
  [ -e "$debian_binaries" ] || build_kubernetes
  [ -e "$binaries" ] || build_from_modules
  [ -e "$images" ] || build_images
  # Unpacked already now, for the first node: that takes a minute and a half. What fails here the node does itself.
  [ -e "$image_store" ] || store_images || true
}

# The vendored source package, in GOPATH mode: module mode refuses its vendor folder.
build_kubernetes() {
  local scratch
  scratch=$(mktemp -d "$cache/build.XXXXXX")
  say "fetching the source of Kubernetes $debian_version"
  (cd "$scratch" && fetch_source kubernetes)
  local root=$scratch/gopath/src/k8s.io/kubernetes out=$scratch/out
  mkdir -p "$(dirname "$root")" "$out"
  mv "$scratch"/kubernetes-*/ "$root"
  say "building Kubernetes $debian_version: about 4 minutes on two idle cores"
  (
    export GOPATH=$scratch/gopath GOCACHE=$scratch/gocache GO111MODULE=off CGO_ENABLED=0 GOFLAGS=
    PATH=/usr/lib/go-1.19/bin:$PATH
    cd "$root"
    # This kubelet misses the removal of an ended pod's sandbox now and then, and finds it when it next tidies up, once a minute: half of
    # all teardowns took that long. It is looked for each second here; then the container before one that was created and does not run yet
    # must not be taken for one too many, or its log is gone.
    replace pkg/kubelet/kubelet.go 'ContainerGCPeriod = time.Minute' 'ContainerGCPeriod = time.Second'
    replace pkg/kubelet/kuberuntime/kuberuntime_gc.go 'container.State == runtimeapi.ContainerState_CONTAINER_RUNNING' \
      'container.State != runtimeapi.ContainerState_CONTAINER_EXITED'
    # Clusters of tests request more than they take: three would not fit beside each other on a node with two processors.
    replace pkg/kubelet/cadvisor/util.go 'info.NumCores\*1000' 'info.NumCores*4000'
    replace pkg/kubelet/cadvisor/util.go 'int64(info.MemoryCapacity)' 'int64(info.MemoryCapacity*2)'
    # This reflect2 walks through maps as Go did before 1.18: with a newer Go the API server crashes at the first custom object.
    local reflect2=vendor/github.com/modern-go/reflect2
    replace $reflect2/unsafe_link.go 'm unsafe.Pointer) \*hiter' 'm unsafe.Pointer, it *hiter)'
    replace $reflect2/unsafe_link.go '\/\/ rest fields are ignored' 'pointers [6]unsafe.Pointer\n\tnumbers [4]uintptr'
    replace $reflect2/unsafe_map.go 'hiter:  *mapiterinit(type2.rtype, \*(\*unsafe.Pointer)(obj)),' 'hiter: it,'
    replace $reflect2/unsafe_map.go 'return &UnsafeMapIterator{' \
      'it := new(hiter)\n\tmapiterinit(type2.rtype, *(*unsafe.Pointer)(obj), it)\n\treturn \&UnsafeMapIterator{'
    generate_openapi "$out"
    # Without these everything says that it is v0.0.0. The path of a vendored package begins with the vendor folder.
    local stamp='' package
    for package in component-base/version client-go/pkg/version; do
      package=k8s.io/kubernetes/vendor/k8s.io/$package
      stamp+=" -X $package.gitVersion=v$debian_version -X $package.gitMajor=1 -X $package.gitMinor=20"
    done
    for command in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
      go build -trimpath -ldflags "-s -w $stamp" -o "$out/$command" "./cmd/$command"
    done
    gcc -Os -static -o "$out/pause" build/pause/linux/pause.c 2>/dev/null ||
      gcc -Os -static -o "$out/pause" build/pause/pause.c
  )
  rm -f "$out/openapi-gen"
  mv "$out" "$debian_binaries"
  # Go's caches are read-only.
  chmod -R u+w "$scratch" && rm -rf "$scratch"
}

# Another version, as one program that is told by its name which it is; and containerd, for a current kubelet needs a current one.
build_from_modules() {
  local scratch out staging
  command -v go >/dev/null || { say "Kubernetes $kubernetes_version is built from Go modules: install Go 1.21 or later" && return 1; }
  scratch=$(mktemp -d "$cache/build.XXXXXX") out=$scratch/out staging=v0.${kubernetes_version#1.}
  mkdir -p "$scratch"/{kubernetes,containerd} "$out"
  say "building Kubernetes $kubernetes_version and containerd $containerd_version: about 6 minutes on two idle cores"
  (
    export CGO_ENABLED=0 GOFLAGS=-mod=mod
    cd "$scratch/kubernetes"
    cp "$here/kubernetes.go" main.go
    go mod init testbed
    retry go get "k8s.io/kubernetes@v$kubernetes_version"
    # Its own go.mod finds them in its folders.
    local source module modules=()
    source=$(go list -m -f '{{.Dir}}' k8s.io/kubernetes)
    for module in $(sed -n 's/^\t\(.*\) => .\/staging\/.*/\1/p' "$source/go.mod"); do
      case $module in *sample-*) ;; *) modules+=("$module@$staging") ;; esac
    done
    retry go get "${modules[@]}" "k8s.io/kubernetes@v$kubernetes_version"
    retry go mod tidy
    local stamp='' package
    for package in component-base/version client-go/pkg/version; do
      package=k8s.io/$package
      stamp+=" -X $package.gitVersion=v$kubernetes_version -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$kubernetes_version")"
    done
    go build -trimpath -ldflags "-s -w $stamp" -o "$out/kubernetes" .
    for command in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
      ln -s kubernetes "$out/$command"
    done
    cd ../containerd
    local parts=(containerd containerd-shim-runc-v2 ctr)
    parts=("${parts[@]/#/github.com/containerd/containerd/v2/cmd/}")
    go mod init testbed
    retry go get -tool "${parts[@]/%/@v$containerd_version}"
    go build -trimpath -ldflags '-s -w' -tags 'no_btrfs no_devmapper no_zfs' -o "$out/" "${parts[@]}"
  ) 2>"$scratch/log" || { tail "$scratch/log" >&2 && return 1; }
  mv "$out" "$binaries"
  rm -rf "$scratch"
}

# replace FILE PATTERN BY: what must be there.
replace() {
  grep -q "$2" "$1" || return
  sed -i "s/$2/$3/" "$1"
}

# The API server's OpenAPI definitions are not in the package: made as its own build would.
generate_openapi() {
  local out=$1 directories
  go build -o "$out/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
  directories=$(grep -rl --include='*.go' '+k8s:openapi-gen=' pkg staging/src vendor/k8s.io |
    grep -v -e examples -e /kube-openapi/ -e sample- -e /abac -e _test.go |
    xargs -n1 dirname |
    sed -e 's#^staging/src/##' -e 's#^vendor/##' -e 's#^pkg/#k8s.io/kubernetes/pkg/#' |
    sort -u | paste -sd,)
  "$out/openapi-gen" --logtostderr -i "$directories" -p k8s.io/kubernetes/pkg/generated/openapi \
    -O zz_generated.openapi -h /dev/null -r /dev/null
}

# fetch_source PACKAGE: unpacks a Debian source package here. The machine's own sources are used, turned into source
# entries in a private configuration; the machine's is left alone.
fetch_source() {
  mkdir -p apt/parts apt/lists/partial apt/archives/partial
  local file
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [ -s "$file" ] || continue
    sed -e 's/^Types:.*/Types: deb-src/' -e 's/^deb /deb-src /' "$file" >"apt/parts/${file##*/}"
  done
  local private=(
    -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$PWD/apt/parts"
    -o "Dir::State::lists=$PWD/apt/lists" -o "Dir::Cache=$PWD/apt" -o APT::Sandbox::User=root
  )
  retry apt-get "${private[@]}" update -qq
  retry apt-get "${private[@]}" source -qq --only-source "$1" >/dev/null
}

build_images() {
  local scratch
  scratch=$(mktemp -d "$cache/build.XXXXXX")
  mkdir -p "$scratch/out"
  build_pause_image "$scratch"
  build_spark_image "$scratch"
  mv "$scratch/out" "$images"
  rm -rf "$scratch"
}

# For tests alone: it is large, and those that need it are left out where it cannot be built.
build_for_tests() {
  build_all
  [ -e "$images/s3" ] || build_s3_layer || say "no Spark image with hadoop-aws: its packages cannot be fetched, or there is no Java"
}

# What examples/spark-s3.Containerfile adds to the Spark image: its own command, run here, and a layer with the result.
build_s3_layer() {
  local scratch work digest
  scratch=$(mktemp -d "$cache/build.XXXXXX")
  work=$scratch/work
  mkdir -p "$work" "$scratch/layer/opt/spark/jars"
  say "fetching Spark $spark_version and hadoop-aws for the image"
  tar xOf "$images/spark.tar" layer.tar | tar x -C "$work" ./opt/spark || return
  sed -n '/^RUN/,/[^\\]$/p' "$here/../../examples/spark-s3.Containerfile" |
    sed -e 's/^RUN//' -e "s#/opt/spark/#$work/opt/spark/#g" -e "s#/tmp/packages#$scratch/packages#" >"$scratch/run.sh"
  if ! SPARK_HOME=$work/opt/spark timeout 600 bash -e "$scratch/run.sh" >"$scratch/log" 2>&1; then
    tail -n 3 "$scratch/log" >&2
    rm -rf "$scratch"
    return 1
  fi
  mv "$scratch"/packages/jars/* "$scratch/layer/opt/spark/jars/"
  chmod -R a+rX "$scratch/layer"
  mkdir "$scratch/s3"
  tar cf "$scratch/s3/s3.tar" --owner=0 --group=0 --numeric-owner -C "$scratch/layer" . || return
  digest=$(sha256sum "$scratch/s3/s3.tar" | cut -d' ' -f1)
  tar xOf "$images/spark.tar" config.json | sed "s/\]}}\$/,\"sha256:$digest\"]}}/" >"$scratch/s3/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar","s3.tar"]}]' "docker.io/apache/spark:$spark_version-s3" \
    >"$scratch/s3/manifest.json"
  mv "$scratch/s3" "$images/s3"
  rm -rf "$scratch"
}

store_images() {
  local scratch pid stored=
  scratch=$(mktemp -d "$cache/build.XXXXXX")
  cat >"$scratch/containerd.toml" <<TOML
version = 2
root = "$scratch/store"
state = "$scratch/state"
[grpc]
address = "$scratch/containerd.sock"
TOML
  containerd --config "$scratch/containerd.toml" 2>"$scratch/log" &
  pid=$!
  if wait_for 30 containerd ctr --address "$scratch/containerd.sock" version && import_images "$scratch/containerd.sock" "the first node"; then
    stored=yes
  fi
  kill "$pid"
  wait "$pid" || true
  [ -z "$stored" ] || mv "$scratch/store" "$image_store"
  rm -rf "$scratch"
  [ -n "$stored" ]
}

# import_images SOCKET NODE: a store outlives its node, so this is done once for each version.
import_images() {
  local archive
  local ctr=(ctr --address "$1" --namespace k8s.io)
  for archive in pause spark; do
    [ -n "$("${ctr[@]}" images ls -q | grep "/$archive:")" ] && continue
    say "importing the $archive image for $2"
    "${ctr[@]}" images import "$images/$archive.tar" >/dev/null || return 1
  done
  if [ -e "$images/s3" ] && [ -z "$("${ctr[@]}" images ls -q | grep ":$spark_version-s3\$")" ]; then
    say "importing the Spark image with hadoop-aws for $2"
    s3_archive | "${ctr[@]}" images import - >/dev/null || return 1
  fi
  # What sparkha has to take for another version.
  "${ctr[@]}" images tag --force "docker.io/apache/spark:$spark_version" docker.io/apache/spark:next >/dev/null
}

build_pause_image() {
  mkdir -p "$1/pause"
  cp "$debian_binaries/pause" "$1/pause/pause"
  image_archive "$1/pause" "$1/out/pause.tar" '{"Entrypoint":["/pause"]}' sparkha.test/pause:3.2
}

# The image as `docker save` would write it: the layer of the Spark image is taken from there.
s3_archive() {
  python3 - "$images" <<'PYTHON'
import sys, tarfile
images = sys.argv[1]
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive, tarfile.open(f"{images}/spark.tar") as spark:
    for name in ("config.json", "manifest.json", "s3.tar"):
        archive.add(f"{images}/s3/{name}", name)
    archive.addfile(spark.getmember("layer.tar"), spark.extractfile("layer.tar"))
PYTHON
}

# As the official image: Spark at /opt/spark, Java 17, Python 3, tini, user 185; with the java that tests use.
build_spark_image() {
  local root=$1/root java py4j
  say "fetching Spark $spark_version"
  retry python3 -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: -d "$1" "pyspark==$spark_version"
  say "building the Spark image"
  retry debootstrap --variant=minbase --include=openjdk-17-jre-headless,procps,python3,tini bookworm "$root" \
    "$(debian_mirror)" >"$1/debootstrap.log"
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
  mkdir -p "$root/opt/spark/work-dir"
  tar xzf "$1/pyspark-$spark_version.tar.gz" -C "$root/opt/spark" --strip-components=2 "pyspark-$spark_version/deps"
  # Python's part, where the official image has it.
  mkdir -p "$root/opt/spark/python/lib"
  tar xzf "$1/pyspark-$spark_version.tar.gz" -C "$root/opt/spark/python" --strip-components=1 \
    "pyspark-$spark_version/pyspark" "pyspark-$spark_version/lib"
  (cd "$root/opt/spark/python" && python3 -m zipfile -c lib/pyspark.zip pyspark)
  chmod -R a+rX "$root/opt/spark"
  chmod a+rx "$root"/opt/spark/bin/*
  echo 'spark:x:185:185:spark:/opt/spark:/bin/bash' >>"$root/etc/passwd"
  echo 'spark:x:185:' >>"$root/etc/group"
  chown 185:185 "$root/opt/spark/work-dir"
  say "archiving the classes of Spark"
  java=/$(cd "$root" && echo usr/lib/jvm/java-17-openjdk-*)/bin/java
  py4j=$(cd "$root" && echo opt/spark/python/lib/py4j-*.zip)
  mkdir -p "$root/opt/java/bin"
  sed "s|@JAVA@|$java|g; s|@SPARK@|/opt/spark|g; s|@ARCHIVE@|/opt/java/spark.jsa|g" "$here/../java.sh" >"$root/opt/java/bin/java"
  echo "127.0.0.1 localhost" >"$root/etc/hosts"
  chmod a+rx "$root/opt/java/bin/java"
  cp "$here/../archive.sh" "$root/tmp/archive.sh"
  # shellcheck disable=SC2016 # the inner shell's
  unshare --mount --pid --net --fork bash -c 'ip link set lo up && mount -t proc proc "$1/proc" && exec chroot "$@"' - \
    "$root" /tmp/archive.sh "$java" /opt/spark /opt/java/spark.jsa
  rm "$root/tmp/archive.sh"
  image_archive "$root" "$1/out/spark.tar" '{"User":"185","WorkingDir":"/opt/spark/work-dir","Env":[
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/spark/bin","SPARK_HOME=/opt/spark",
      "JAVA_HOME=/opt/java",
      "PYTHONPATH=/opt/spark/python:/'"$py4j"'"]}' \
    "docker.io/apache/spark:$spark_version" docker.io/apache/spark:another-tag
}

# The mirror that this machine's own apt uses.
debian_mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | grep -v -e security -e updates | head -n 1
}
