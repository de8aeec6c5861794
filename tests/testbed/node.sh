# shellcheck shell=bash disable=SC2154 # sourced by testbed.sh, which sets the variables
# The nodes and their control plane: certificates, daemons, networks and image stores; and how all of it is ended again.
#
# Every process, down to the last container, lives in one control group of our own. That group is the record by which they are
# ended, whatever became of the process that started them.
#
# A single node is this machine itself. Several nodes have a network and a mount namespace each, held by a process of the node's own
# control group, and are connected by a bridge on which the control plane listens. So their interfaces, routes, firewall chains and mounts
# vanish with their processes.

group=sparkha-testbed
bridge=sparkha0
nodes=$(cat "$state/nodes" 2>/dev/null || echo "${NODES:-1}")

# set_control_plane: where the API server and DNS listen.
set_control_plane() {
  if [ "$nodes" = 1 ]; then gateway=10.244.0.1; else gateway=198.18.77.1; fi
  server=https://$gateway:16443
}
set_control_plane

# select_node NUMBER: sets what the functions for one node use.
select_node() {
  number=$1
  if [ "$nodes" = 1 ]; then
    node=testbed node_dir=$state node_group=$group node_address=$gateway
    pod_bridge=$bridge pod_network=10.244.0
    inside=()
  else
    node=testbed-$number node_dir=$state/testbed-$number node_group=$group/testbed-$number node_address=198.18.77.1$number
    pod_bridge=pods pod_network=10.244.$number
    inside=()
    [ ! -s "$node_dir/pid" ] || inside=(nsenter --target "$(cat "$node_dir/pid")" --net --mount)
  fi
  # The first of several nodes has the store of a single one: they never run at the same time.
  node_store=$image_store
  [ "$number" = 1 ] || node_store=$image_store-$number
}

# each_node COMMAND…: for every node, one after the other.
each_node() {
  local each
  for ((each = 1; each <= nodes; each++)); do
    select_node "$each"
    "$@"
  done
}

# node_named NAME: selects it.
node_named() {
  local each
  for ((each = 1; each <= nodes; each++)); do
    select_node "$each"
    [ "$node" != "$1" ] || return 0
  done
  say "there is no node $1"
  return 2
}

# group_folders [GROUP]: the control group's folder in every hierarchy (version 1) or in the only one (version 2).
group_folders() {
  local name=${1:-$group}
  if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    echo "/sys/fs/cgroup/$name"
  else
    local hierarchy
    for hierarchy in /sys/fs/cgroup/*/; do
      [ -e "$hierarchy/cgroup.procs" ] && [ ! -L "${hierarchy%/}" ] && echo "$hierarchy$name"
    done
  fi
}

# group_processes [GROUP]
group_processes() {
  local folder
  for folder in $(group_folders "${1:-$group}"); do
    [ -d "$folder" ] && find "$folder" -name cgroup.procs -exec cat {} + 2>/dev/null
  done | sort -un
}

# make_group GROUP: with a group below it for daemons.
make_group() {
  local folder
  for folder in $(group_folders "$1"); do
    mkdir -p "$folder/daemons"
    # A new cpuset is empty, and takes no process until it has processors and memory.
    if [ -e "$folder/cpuset.cpus" ]; then
      for file in cpuset.cpus cpuset.mems; do
        cat "$folder/../$file" >"$folder/$file"
        cat "$folder/../$file" >"$folder/daemons/$file"
      done
    fi
  done
}

# A control group counts as one process when processors are shared out: on a busy machine the API server took minutes to start.
give_processors() {
  local folder
  for folder in $(group_folders); do
    [ ! -e "$folder/cpu.shares" ] || echo 20480 >"$folder/cpu.shares"
    [ ! -e "$folder/cpu.weight" ] || echo 2000 >"$folder/cpu.weight"
  done
}

# start NAME COMMAND…: a daemon of the control plane, in its control group and with its log.
start() { start_in "$group" "$state/logs" "$@"; }

# start_on_node NAME COMMAND…: a daemon of the selected node.
start_on_node() {
  local name=$1
  shift
  start_in "$node_group" "$node_dir/logs" "$name" "${inside[@]}" "$@"
}

start_in() {
  local of=$1 logs=$2 name=$3
  shift 3
  (
    for folder in $(group_folders "$of"); do
      echo "$BASHPID" >"$folder/daemons/cgroup.procs"
    done
    echo "$BASHPID" >"$logs/$name.pid"
    # Of Go: there is more memory than processor time.
    export GOGC=400
    exec setsid "$@" >"$logs/$name.log" 2>&1 </dev/null
  ) &
}

is_current() { [ "$kubernetes_version" != "$debian_version" ]; }
api() { "$binaries/kubectl" --kubeconfig "$state/kubeconfig" "$@"; }
containers() { ctr --address "$node_dir/containerd.sock" --namespace k8s.io "$@"; }

dns_answers() { [ -s "$state/hosts" ] && (: <"/dev/tcp/$gateway/53") 2>/dev/null; }

node_is_healthy() {
  [ -e "$state/up" ] && [ "$(group_processes | wc -l)" -gt 0 ] && dns_answers &&
    nodes_are_ready
}

nodes_are_ready() {
  [ "$(api get nodes --request-timeout=5s 2>/dev/null | grep -c ' Ready ')" = "$nodes" ]
}

node_up() {
  nodes=${NODES:-1}
  set_control_plane
  [ "$nodes" = 1 ] && say "starting the node" || say "starting $nodes nodes"
  mkdir -p "$state"/{logs,pki,volumes,netns}
  echo "$nodes" >"$state/nodes"
  echo "$kubernetes_version" >"$state/version"
  ls /run/netns 2>/dev/null >"$state/netns/before" || true
  make_group "$group"
  give_processors
  prepare_network
  make_certificates
  make_kubeconfig
  each_node prepare_node

  start etcd etcd --name testbed --data-dir "$state/etcd" \
    --listen-client-urls http://127.0.0.1:16379 --advertise-client-urls http://127.0.0.1:16379 \
    --listen-peer-urls http://127.0.0.1:16380 --initial-advertise-peer-urls http://127.0.0.1:16380 \
    --initial-cluster testbed=http://127.0.0.1:16380 --logger zap
  each_node start_containerd
  # Kubernetes takes a silent node for lost after 40 s, and tells its pods to end 300 s later; tests of lost nodes need not wait so long.
  local monitor=() tolerate=()
  if [ "$nodes" != 1 ]; then
    monitor=(--node-monitor-period=1s --node-monitor-grace-period=12s)
    tolerate=(--default-not-ready-toleration-seconds=10 --default-unreachable-toleration-seconds=10)
  fi
  start kube-apiserver "$binaries/kube-apiserver" \
    --etcd-servers=http://127.0.0.1:16379 --bind-address=$gateway --secure-port=16443 --advertise-address=$gateway \
    --client-ca-file="$state/pki/ca.crt" --tls-cert-file="$state/pki/server.crt" \
    --tls-private-key-file="$state/pki/server.key" --authorization-mode=Node,RBAC --allow-privileged \
    --kubelet-client-certificate="$state/pki/admin.crt" --kubelet-client-key="$state/pki/admin.key" \
    --kubelet-preferred-address-types=InternalIP --service-cluster-ip-range=10.96.0.0/16 \
    --service-account-key-file="$state/pki/service-account.key" \
    --service-account-signing-key-file="$state/pki/service-account.key" \
    --service-account-issuer=https://kubernetes.default.svc "${tolerate[@]}"
  wait_for 180 "the API server" api get --raw /readyz
  local no_http=()
  is_current || no_http=(--port=0)
  start kube-controller-manager "$binaries/kube-controller-manager" \
    --kubeconfig="$state/kubeconfig" --kube-api-qps=100 --kube-api-burst=200 \
    --service-account-private-key-file="$state/pki/service-account.key" \
    --root-ca-file="$state/pki/ca.crt" --leader-elect=false --bind-address=127.0.0.1 "${no_http[@]}" "${monitor[@]}"
  start kube-scheduler "$binaries/kube-scheduler" \
    --kubeconfig="$state/kubeconfig" --leader-elect=false --bind-address=127.0.0.1 "${no_http[@]}"
  each_node start_kubelet
  sed "s/ADDRESS/$gateway/" "$here/addons.yaml" | api apply -f - >/dev/null
  start addons python3 -B "$here/addons.py" "$server" "$state" "$gateway"
  start policies python3 -B "$here/policies.py" "$server" "$state" "$group" $(holders)
  wait_for 120 "the nodes" nodes_are_ready
  wait_for 30 "the service account of the default namespace" api get serviceaccount default
  wait_for 30 "DNS" dns_answers
  each_node wait_for_policies
  touch "$state/up"
  [ "$nodes" = 1 ] && say "is up" || say "$nodes nodes are up"
}

# The processes that hold the namespaces of several nodes.
holders() { cat "$state"/testbed-*/pid 2>/dev/null || true; }

prepare_node() {
  mkdir -p "$node_dir"/{logs,cni/net.d} "$node_store"
  [ "$nodes" = 1 ] || make_namespaces
  write_configuration
}

start_containerd() { start_on_node containerd containerd --config "$node_dir/containerd.toml"; }

start_kubelet() {
  wait_for 30 containerd containers version
  import_images "$node_dir/containerd.sock" "$node"
  local runtime=()
  is_current || runtime=(--container-runtime=remote --container-runtime-endpoint="unix://$node_dir/containerd.sock")
  start_on_node kubelet "$binaries/kubelet" --config="$node_dir/kubelet.yaml" --kubeconfig="$state/kubeconfig" \
    --root-dir="$node_dir/kubelet" --hostname-override="$node" --node-ip="$node_address" "${runtime[@]}"
  start_on_node kube-proxy "$binaries/kube-proxy" --config="$node_dir/kube-proxy.yaml" --hostname-override="$node"
}

wait_for_policies() { wait_for 30 "network policies" "${inside[@]}" nft list table ip "$group"; }

# A node of several: namespaces of its own, connected to the bridge. The kubelet and CNI have paths that no option moves; mounted over these
# is a folder of the node's, for this kubelet deletes the logs of pods that it does not know.
make_namespaces() {
  make_group "$node_group"
  local paths=(/var/log/pods /var/log/containers /var/lib/kubelet /var/lib/cni) path
  for path in "${paths[@]}"; do mkdir -p "$path" "$node_dir/root$path"; done
  # A disk of its own, which tests fill. It takes only what is written.
  mkdir -p "$node_dir/kubelet"
  truncate -s 8G "$node_dir/disk"
  mkfs.ext4 -q -m 0 -E lazy_itable_init=1,lazy_journal_init=1 "$node_dir/disk"
  # shellcheck disable=SC2016 # for the shell that is started
  start_on_node namespaces unshare --net --mount --propagation slave sh -c '
    root=$1 && shift
    mount -o loop "$root/../disk" "$root/../kubelet" || exit
    for path; do mount --bind "$root$path" "$path" || exit; done
    echo $$ >"$root/../pid.new" && mv "$root/../pid.new" "$root/../pid"
    exec sleep infinity' sh "$node_dir/root" "${paths[@]}"
  wait_for 10 "the namespaces of $node" test -s "$node_dir/pid"
  select_node "$number"
  ip link add "$bridge-$number" type veth peer name eth0 netns "$(cat "$node_dir/pid")"
  ip link set "$bridge-$number" master "$bridge" up
  ip route add "$pod_network.0/24" via "$node_address"
  "${inside[@]}" sh -e -c '
    for key in net/ipv4/ip_forward net/bridge/bridge-nf-call-iptables; do
      [ ! -e /proc/sys/$key ] || echo 1 >/proc/sys/$key
    done
    ip link set lo up
    ip address add "$1/24" dev eth0
    ip link set eth0 up
    ip route add default via "$2"' sh "$node_address" "$gateway"
  # To the other nodes' pods.
  local other
  for ((other = 1; other <= nodes; other++)); do
    [ "$other" = "$number" ] || "${inside[@]}" ip route add "10.244.$other.0/24" via "198.18.77.1$other"
  done
}

# The bridge is made here and not left to CNI, for the control plane's address and DNS are on it. Its own MAC address is fixed: it would
# take one of its ports', and everybody would remember a wrong one when that node is lost.
prepare_network() {
  for key in net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables; do
    [ "$key" = net.ipv4.ip_forward ] || modprobe br_netfilter 2>/dev/null || true
    [ -e "/proc/sys/${key//./\/}" ] || continue
    echo "$key=$(sysctl -n "$key")" >>"$state/sysctl.before"
    sysctl -q -w "$key=1"
  done
  ip link add "$bridge" address 02:73:70:61:72:6b type bridge
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
  cat >"$node_dir/containerd.toml" <<TOML
version = 2
root = "$node_store"
state = "$node_dir/containerd"
[grpc]
address = "$node_dir/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "sparkha.test/pause:3.2"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$node_dir/cni/net.d"
TOML
  cat >"$node_dir/cni/net.d/10-testbed.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "$group", "plugins": [
  {"type": "bridge", "bridge": "$pod_bridge", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$node_dir/cni/ipam", "ranges": [[{"subnet": "$pod_network.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
  # The thresholds keep a well-filled disk from evicting pods. The frequency decides how soon after its end a pod is gone:
  # this kubelet looks only once in every such period whether volumes and control groups are released. The period of statistics
  # decides how soon an emptyDir above its limit is noticed. The rates are those of later versions: five requests a second, 1.20's, make
  # pods wait for one another.
  cat >"$node_dir/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $state/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
address: $node_address
healthzBindAddress: 127.0.0.1
clusterDomain: cluster.local
clusterDNS: [$gateway]
cgroupDriver: cgroupfs
cgroupRoot: /$node_group
failSwapOn: false
syncFrequency: 1s
kubeAPIQPS: 50
kubeAPIBurst: 100
eventRecordQPS: 50
eventBurst: 100
volumeStatsAggPeriod: 5s
enforceNodeAllocatable: []
maxPods: 100
serializeImagePulls: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
resolvConf: ""
YAML
  # The machine may have the control groups of version 1.
  ! is_current || printf '%s\n' "containerRuntimeEndpoint: unix://$node_dir/containerd.sock" "failCgroupV1: false" >>"$node_dir/kubelet.yaml"
  # By these a lost node is noticed, see --node-monitor-grace-period, and a disk that is no longer full.
  [ "$nodes" = 1 ] || printf '%s\n' 'nodeLeaseDurationSeconds: 12' 'nodeStatusUpdateFrequency: 3s' \
    'evictionPressureTransitionPeriod: 15s' >>"$node_dir/kubelet.yaml"
  cat >"$node_dir/kube-proxy.yaml" <<YAML
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

# import_program PROGRAM TAG [NODE]
import_program() {
  # Debug information is most of the program that is tested.
  strip -o "$state/${1##*/}" "$1"
  program_image "$state/${1##*/}" "$state/program.tar" "$2"
  if [ -n "${3:-}" ]; then
    node_named "$3"
    containers images import "$state/program.tar" >/dev/null
  else
    each_node containers images import "$state/program.tar" >/dev/null
  fi
  rm "$state/program.tar" "$state/${1##*/}"
}

# signal_daemon SIGNAL NAME: a daemon of the control plane, or one that each node has.
signal_daemon() {
  local file found=
  for file in "$state"/logs/"$2".pid "$state"/testbed-*/logs/"$2".pid; do
    [ -e "$file" ] || continue
    kill -s "$1" "$(cat "$file")" && found=yes
  done
  [ -n "$found" ] || { say "there is no daemon $2" && return 2; }
}

node_down() {
  [ -d "$state" ] || return 0
  say "ending the node"
  # Whatever is gone already must not keep the rest from being removed.
  set +e
  end_group TERM
  end_group KILL
  unmount_below "$state" "$image_store" "$image_store"-*
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
      # The processes of a lost node are stopped, and would not see it.
      # shellcheck disable=SC2086
      kill -s CONT $pids 2>/dev/null || true
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

# lose_node NAME: as if it had lost its power: its link is down and none of its processes runs.
lose_node() {
  cut_node "$1"
  # Whoever is started meanwhile has to be stopped too.
  local attempt
  for attempt in 1 2 3; do
    # shellcheck disable=SC2046 # one argument for each process
    kill -s STOP $(group_processes "$node_group") 2>/dev/null || true
    sleep 0.1
  done
}

# cut_node NAME: its link alone is down; everything on it goes on.
cut_node() {
  node_named "$1" && of_several && ip link set "$bridge-$number" down
}

# regain_node NAME: undoes either.
regain_node() {
  node_named "$1" && of_several
  # shellcheck disable=SC2046
  kill -s CONT $(group_processes "$node_group") 2>/dev/null || true
  ip link set "$bridge-$number" up
}

of_several() {
  [ "$nodes" != 1 ] || { say "a single node is this machine: use NODES=3" && return 2; }
}

# What a node is, one line each: its name, its address, the process whose namespaces are the node's.
list_nodes() { each_node describe_node; }
describe_node() { printf '%s\t%s\t%s\n' "$node" "$node_address" "$(cat "$node_dir/pid" 2>/dev/null || echo 1)"; }

node_leftovers() {
  local found
  found=$(
    group_processes | sed 's/^/process /'
    awk '{print $2}' /proc/mounts | grep -F -e "$state/" -e "$image_store" | sed 's/^/mount /'
    ip -o link show 2>/dev/null | grep -o "$bridge" | sort -u | sed 's/^/interface /'
    { iptables-save; ip6tables-save; } 2>/dev/null | grep -o -e '^:KUBE-[^ ]*' -e '^:CNI-[^ ]*' | sed 's/^/chain /'
    nft list tables 2>/dev/null | grep -F "$group"
    for folder in $(group_folders); do [ -d "$folder" ] && echo "control group $folder"; done
    [ -e "$state" ] && echo "folder $state"
    true
  )
  [ -z "$found" ] || { printf '%s\n' "$found" && return 1; }
}
