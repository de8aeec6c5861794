# shellcheck shell=bash disable=SC2154 # sourced by testbed.sh, which sets the variables
# The node: certificates, daemons, network and image store; and how all of it is ended again.
#
# Every process of the node, down to the last container, lives in one control group of our own. That group is the record
# by which they are ended, whatever became of the process that started them.

group=sparkha-testbed
bridge=sparkha0
gateway=10.244.0.1
server=https://$gateway:16443

# The control group's folder in every hierarchy (version 1) or in the only one (version 2).
group_folders() {
  if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    echo "/sys/fs/cgroup/$group"
  else
    local hierarchy
    for hierarchy in /sys/fs/cgroup/*/; do
      [ -e "$hierarchy/cgroup.procs" ] && [ ! -L "${hierarchy%/}" ] && echo "$hierarchy$group"
    done
  fi
}

group_processes() {
  local folder
  for folder in $(group_folders); do
    [ -d "$folder" ] && find "$folder" -name cgroup.procs -exec cat {} + 2>/dev/null
  done | sort -un
}

# start NAME COMMAND…: a daemon in the node's control group, with its log.
start() {
  local name=$1
  shift
  (
    for folder in $(group_folders); do
      echo "$BASHPID" >"$folder/daemons/cgroup.procs"
    done
    exec setsid "$@" >"$state/logs/$name.log" 2>&1 </dev/null
  ) &
}

api() { "$binaries/kubectl" --kubeconfig "$state/kubeconfig" "$@"; }
containers() { ctr --address "$state/containerd.sock" --namespace k8s.io "$@"; }

dns_answers() { [ -s "$state/hosts" ] && (: <"/dev/tcp/$gateway/53") 2>/dev/null; }

node_is_healthy() {
  [ -e "$state/up" ] && [ "$(group_processes | wc -l)" -gt 0 ] && dns_answers &&
    api get nodes --request-timeout=5s 2>/dev/null | grep -q ' Ready '
}

node_up() {
  say "starting the node"
  mkdir -p "$state"/{logs,pki,manifests,volumes,cni/net.d,netns} "$image_store"
  ls /run/netns 2>/dev/null >"$state/netns/before" || true
  for folder in $(group_folders); do
    mkdir -p "$folder/daemons"
    # A new cpuset is empty, and takes no process until it has processors and memory.
    if [ -e "$folder/cpuset.cpus" ]; then
      for file in cpuset.cpus cpuset.mems; do
        cat "$folder/../$file" >"$folder/$file"
        cat "$folder/../$file" >"$folder/daemons/$file"
      done
    fi
  done
  prepare_network
  make_certificates
  make_kubeconfig
  write_configuration

  start etcd etcd --name testbed --data-dir "$state/etcd" \
    --listen-client-urls http://127.0.0.1:16379 --advertise-client-urls http://127.0.0.1:16379 \
    --listen-peer-urls http://127.0.0.1:16380 --initial-advertise-peer-urls http://127.0.0.1:16380 \
    --initial-cluster testbed=http://127.0.0.1:16380 --logger zap
  start containerd containerd --config "$state/containerd.toml"
  start kube-apiserver "$binaries/kube-apiserver" \
    --etcd-servers=http://127.0.0.1:16379 --bind-address=$gateway --secure-port=16443 --advertise-address=$gateway \
    --client-ca-file="$state/pki/ca.crt" --tls-cert-file="$state/pki/server.crt" \
    --tls-private-key-file="$state/pki/server.key" --authorization-mode=Node,RBAC --allow-privileged \
    --kubelet-client-certificate="$state/pki/admin.crt" --kubelet-client-key="$state/pki/admin.key" \
    --kubelet-preferred-address-types=InternalIP --service-cluster-ip-range=10.96.0.0/16 \
    --service-account-key-file="$state/pki/service-account.key" \
    --service-account-signing-key-file="$state/pki/service-account.key" \
    --service-account-issuer=https://kubernetes.default.svc
  wait_for 60 "the API server" api get --raw /readyz
  start kube-controller-manager "$binaries/kube-controller-manager" \
    --kubeconfig="$state/kubeconfig" --service-account-private-key-file="$state/pki/service-account.key" \
    --root-ca-file="$state/pki/ca.crt" --leader-elect=false --bind-address=127.0.0.1 --port=0
  start kube-scheduler "$binaries/kube-scheduler" \
    --kubeconfig="$state/kubeconfig" --leader-elect=false --bind-address=127.0.0.1 --port=0
  wait_for 30 containerd containers version
  import_images
  start kubelet "$binaries/kubelet" --config="$state/kubelet.yaml" --kubeconfig="$state/kubeconfig" \
    --root-dir="$state/kubelet" --hostname-override=testbed --node-ip=$gateway --container-runtime=remote \
    --container-runtime-endpoint="unix://$state/containerd.sock"
  start kube-proxy "$binaries/kube-proxy" --config="$state/kube-proxy.yaml" --hostname-override=testbed
  api apply -f "$here/addons.yaml" >/dev/null
  start addons python3 -B "$here/addons.py" "$server" "$state" "$gateway"
  start policies python3 -B "$here/policies.py" "$server" "$state" "$group"
  wait_for 60 "the node" sh -c "'$binaries/kubectl' --kubeconfig '$state/kubeconfig' get nodes | grep -q ' Ready '"
  wait_for 30 "the service account of the default namespace" api get serviceaccount default
  wait_for 30 "DNS" dns_answers
  wait_for 30 "network policies" nft list table ip "$group"
  touch "$state/up"
  say "is up"
}

# The bridge is made here and not left to CNI, for the node's own address and DNS are on it.
prepare_network() {
  for key in net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables; do
    [ "$key" = net.ipv4.ip_forward ] || modprobe br_netfilter 2>/dev/null || true
    [ -e "/proc/sys/${key//./\/}" ] || continue
    echo "$key=$(sysctl -n "$key")" >>"$state/sysctl.before"
    sysctl -q -w "$key=1"
  done
  ip link add "$bridge" type bridge
  ip address add "$gateway/24" dev "$bridge"
  ip link set "$bridge" up
}

make_certificates() {
  (
    cd "$state/pki"
    openssl genrsa -out ca.key 2048
    openssl req -x509 -new -key ca.key -subj /CN=testbed -days 365 -out ca.crt
    certificate server /CN=kube-apiserver "subjectAltName=IP:$gateway,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc"
    certificate admin /O=system:masters/CN=testbed-admin "extendedKeyUsage=clientAuth"
    openssl genrsa -out service-account.key 2048
  ) 2>/dev/null
}

certificate() {
  openssl genrsa -out "$1.key" 2048
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out "$1.crt" \
    -extfile <(echo "$3")
}

make_kubeconfig() {
  encoded() { base64 -w0 "$state/pki/$1"; }
  cat >"$state/kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: testbed
contexts: [{name: testbed, context: {cluster: testbed, user: admin}}]
clusters: [{name: testbed, cluster: {server: "$server", certificate-authority-data: $(encoded ca.crt)}}]
users: [{name: admin, user: {client-certificate-data: $(encoded admin.crt), client-key-data: $(encoded admin.key)}}]
YAML
  chmod 600 "$state/kubeconfig"
}

write_configuration() {
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE every sandbox would fail.
  cat >"$state/containerd.toml" <<TOML
version = 2
root = "$image_store"
state = "$state/containerd"
[grpc]
address = "$state/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "sparkha.test/pause:3.2"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$state/cni/net.d"
TOML
  cat >"$state/cni/net.d/10-testbed.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "$group", "plugins": [
  {"type": "bridge", "bridge": "$bridge", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$state/cni/ipam", "ranges": [[{"subnet": "10.244.0.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
  # The thresholds keep a well-filled disk from evicting pods. The frequency decides how soon after its end a pod is gone:
  # this kubelet looks only once in every such period whether volumes and control groups are released.
  cat >"$state/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $state/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
address: $gateway
healthzBindAddress: 127.0.0.1
clusterDomain: cluster.local
clusterDNS: [$gateway]
cgroupDriver: cgroupfs
cgroupRoot: /$group
failSwapOn: false
syncFrequency: 1s
enforceNodeAllocatable: []
maxPods: 100
serializeImagePulls: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
resolvConf: ""
YAML
  cat >"$state/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: $state/kubeconfig}
clusterCIDR: 10.244.0.0/16
healthzBindAddress: 127.0.0.1:16256
metricsBindAddress: 127.0.0.1:16249
conntrack: {maxPerCore: 0}
iptables: {syncPeriod: 30s, minSyncPeriod: 0s}
YAML
}

# The store outlives the node, so this is done once for each version.
import_images() {
  local archive
  for archive in pause spark; do
    [ -n "$(containers images ls -q | grep "/$archive:")" ] && continue
    say "importing the $archive image"
    containers images import "$images/$archive.tar" >/dev/null
  done
}

node_down() {
  [ -d "$state" ] || return 0
  say "ending the node"
  # Whatever is gone already must not keep the rest from being removed.
  set +e
  end_group TERM
  end_group KILL
  unmount_below "$state" "$image_store"
  for netns in /run/netns/cni-*; do
    [ -e "$netns" ] || continue
    grep -qxF "${netns##*/}" "$state/netns/before" 2>/dev/null && continue
    umount "$netns" 2>/dev/null || true
    rm -f "$netns"
  done
  for interface in $(ip -o link show master "$bridge" 2>/dev/null | cut -d: -f2 | cut -d@ -f1); do
    ip link delete "$interface" 2>/dev/null || true
  done
  ip link delete "$bridge" 2>/dev/null || true
  remove_chains
  rm -f /var/lib/cni/results/"$group"-* /var/lib/cni/cache/results/"$group"-* 2>/dev/null
  for folder in $(group_folders); do
    [ -d "$folder" ] && find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null
  done
  if [ -e "$state/sysctl.before" ]; then
    sysctl -q -p "$state/sysctl.before" || true
  fi
  rm -rf "$state"
  set -e
  say "is down"
}

# end_group SIGNAL: to every process of the node, and waits until all are gone or 10 s are over.
end_group() {
  local pids attempt
  for attempt in $(seq 100); do
    pids=$(group_processes)
    [ -n "$pids" ] || return 0
    if [ "$1" = KILL ] || [ "$attempt" = 1 ]; then
      # shellcheck disable=SC2086 # one argument for each process
      kill -s "$1" $pids 2>/dev/null || true
    fi
    sleep 0.1
  done
}

unmount_below() {
  local folder
  for folder; do
    # Deepest first.
    awk '{print $2}' /proc/mounts | grep -F "$folder/" | sort -r | while read -r mount; do
      umount -l "$mount" 2>/dev/null || true
    done
  done
}

# kube-proxy, the kubelet and CNI name their chains so, and the table of policies is named as all of ours; all other rules are left as they
# are.
remove_chains() {
  nft delete table ip "$group" 2>/dev/null || true
  local family rules
  for family in iptables ip6tables; do
    rules=$("$family-save" 2>/dev/null)
    case $rules in
      *KUBE-* | *CNI-*) grep -v -e KUBE- -e CNI- <<<"$rules" | "$family-restore" ;;
    esac
  done
}

node_leftovers() {
  local found
  found=$(
    group_processes | sed 's/^/process /'
    awk '{print $2}' /proc/mounts | grep -F -e "$state/" -e "$image_store/" | sed 's/^/mount /'
    ip -o link show 2>/dev/null | grep -o "$bridge" | sort -u | sed 's/^/interface /'
    { iptables-save; ip6tables-save; } 2>/dev/null | grep -o -e '^:KUBE-[^ ]*' -e '^:CNI-[^ ]*' | sed 's/^/chain /'
    nft list tables 2>/dev/null | grep -F "$group"
    for folder in $(group_folders); do [ -d "$folder" ] && echo "control group $folder"; done
    [ -e "$state" ] && echo "folder $state"
    true
  )
  [ -z "$found" ] || { printf '%s\n' "$found" && return 1; }
}
