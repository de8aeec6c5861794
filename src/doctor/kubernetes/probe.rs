//! What the cluster's own pods can reach: names, addresses, Services and the time, and how full their volumes are. One `exec` for each pod, all
//! concurrent; a missing permission is reported.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::AttachParams;
use tokio::io::AsyncReadExt;

use super::facts::{ClockReading, ConnectTarget, Disk, Lookup, Observed, PodReport, Port, Reachability, Resolution};
use crate::doctor::now;
use crate::model::labels::{Component, INSTANCE};
use crate::model::ports::{MASTER_PORT, WORKER_PORT, ZOOKEEPER_PORT};
use crate::platform::kubernetes::{self, Cluster};
use crate::state::{Facts, is_ready, pods_of};

/// Each pod connects to each: more pods would take too long, and not show more.
const PODS_MAX: usize = 12;
/// Timeout of all answers of one pod; each query has 3 s.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Runs all queries concurrently. bash itself tries a port, because images have neither nc nor curl.
const SCRIPT: &str = r#"
reach() {
  timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null
  case $? in 0) echo "open $1 $2" ;; 124) echo "silent $1 $2" ;; *) echo "refused $1 $2" ;; esac
}
resolve() {
  timeout 3 getent ahosts "$1" >/dev/null 2>&1
  case $? in 0) echo "known $1" ;; 126 | 127) ;; 124) echo "unanswered $1" ;; *) echo "unknown $1" ;; esac
}
echo "time $(date +%s.%N)"
disks=()
while [ $# -gt 0 ]; do
  case $1 in
    reach) reach "$2" "$3" & shift 3 ;;
    resolve) resolve "$2" & shift 2 ;;
    disk) disks+=("$2") && shift 2 ;;
  esac
done
[ ${#disks[@]} = 0 ] || timeout -s KILL 3 df -P "${disks[@]}" 2>/dev/null | while read -r line; do echo "disk $line"; done
wait
"#;

/// Queries the running pods.
pub async fn query_pods(cluster: &Cluster, facts: &Facts, services: &[Service]) -> Observed<Vec<PodReport>> {
    let pods = queried_pods(facts);
    if pods.is_empty() {
        return Err("none of its pods is running".into());
    }
    let targets = targets(&pods, services, facts);
    let names = names(&pods, facts);
    let reports = pods.iter().map(|pod| {
        let (targets, names) = (of_pod(pod, &targets), &names);
        async move { query_pod(cluster, pod, &targets, names).await }
    });
    let reports = join_all(reports).await;
    if let Some(Err(kubernetes::Error::Forbidden { .. })) = reports.iter().find(|report| report.is_err()) {
        return Err("you may not run commands in its pods (create pods/exec)".into());
    }
    let failed = reports.iter().find_map(|report| report.as_ref().err());
    let failed = failed.map(ToString::to_string);
    let reports: Vec<_> = reports.into_iter().flatten().collect();
    match failed {
        Some(reason) if reports.is_empty() => Err(reason),
        _ => Ok(reports),
    }
}

/// Masters and ZooKeeper servers, a worker for each node, and workers that no master knows.
fn queried_pods(facts: &Facts) -> Vec<&Pod> {
    let daemons = pods_of(&facts.pods, Component::Master).chain(pods_of(&facts.pods, Component::ZooKeeper));
    let mut pods: Vec<_> = daemons.filter(|pod| is_running(pod)).collect();
    let mut nodes = Vec::new();
    for worker in pods_of(&facts.pods, Component::Worker).filter(|pod| is_running(pod)) {
        let node = worker.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        // The first stands for its node; an unregistered one may show why it is not registered.
        if !is_registered(worker, facts) || !nodes.contains(&node) {
            pods.push(worker);
            nodes.push(node);
        }
    }
    pods.truncate(PODS_MAX);
    pods
}

/// Whether a master lists it, under its address or its name.
fn is_registered(worker: &Pod, facts: &Facts) -> bool {
    let address = worker.status.as_ref().and_then(|status| status.pod_ip.clone());
    let (name, reports) = (worker.name_any(), facts.masters.values().flatten());
    let mut workers = reports.flat_map(|report| &report.workers);
    workers.any(|known| known.state == "ALIVE" && (known.host == name || Some(&known.host) == address.as_ref()))
}

fn is_running(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let state = status.and_then(|status| status.container_statuses.as_ref()?.first()?.state.as_ref());
    pod.metadata.deletion_timestamp.is_none() && state.is_some_and(|state| state.running.is_some())
}

fn port_of(pod: &Pod) -> Option<u16> {
    match Component::of(pod.labels())? {
        Component::Master => Some(MASTER_PORT),
        Component::Worker => Some(WORKER_PORT),
        Component::ZooKeeper => Some(ZOOKEEPER_PORT),
        _ => None,
    }
}

/// A worker's port changes with each start: its ID in the leader's list ends with it.
fn worker_port(address: &str, facts: &Facts) -> Option<u16> {
    let mut workers = facts.masters.values().flatten().flat_map(|report| &report.workers);
    let worker = workers.find(|worker| worker.state == "ALIVE" && worker.host == address)?;
    worker.id.rsplit('-').next()?.parse().ok()
}

/// The targets to which this pod must connect.
fn of_pod(pod: &Pod, targets: &[(Component, ConnectTarget)]) -> Vec<ConnectTarget> {
    let from = Component::of(pod.labels());
    let is_needed = |to: Component, target: &ConnectTarget| {
        let is_itself = target.name == pod.name_any();
        is_itself || from.is_some_and(|from| connects(from, to))
    };
    let needed = targets.iter().filter(|(to, target)| is_needed(*to, target));
    needed.map(|(_, target)| target.clone()).collect()
}

/// Whether pods of one component connect to pods of another; network policies admit no others.
fn connects(from: Component, to: Component) -> bool {
    use Component::{Master, Worker, ZooKeeper};
    matches!(
        (from, to),
        (Worker, Master) | (Worker, Worker) | (Master, Worker) | (Master, ZooKeeper)
    )
}

/// Every pod at its own address, and every master's Service.
fn targets(pods: &[&Pod], services: &[Service], facts: &Facts) -> Vec<(Component, ConnectTarget)> {
    let ready = pods.iter().filter(|pod| is_ready(pod));
    let of_pods = ready.filter_map(|pod| {
        let address = pod.status.as_ref()?.pod_ip.clone()?;
        let component = Component::of(pod.labels())?;
        let port = match component {
            Component::Worker => worker_port(&address, facts),
            _ => None,
        };
        let target = ConnectTarget {
            name: pod.name_any(),
            is_service: false,
            port: port.or(port_of(pod))?,
            address,
        };
        Some((component, target))
    });
    let of_services = services.iter().filter_map(|service| {
        let name = service.name_any();
        // A master's Service has its pod's name.
        pods.iter().find(|pod| pod.name_any() == name && is_ready(pod))?;
        let address = service.spec.as_ref()?.cluster_ip.clone()?;
        let target = ConnectTarget {
            name,
            is_service: true,
            address,
            port: MASTER_PORT,
        };
        (target.address != "None").then_some((Component::Master, target))
    });
    of_pods.chain(of_services).collect()
}

/// The names that these pods must resolve: masters, ZooKeeper servers, and workers' own names.
fn names(pods: &[&Pod], facts: &Facts) -> Vec<String> {
    let of_pods = pods.iter().filter_map(|pod| {
        let cluster = pod.labels().get(INSTANCE)?;
        match port_of(pod)? {
            MASTER_PORT => Some(pod.name_any()),
            ZOOKEEPER_PORT => Some(format!("{}.{cluster}-zookeeper", pod.name_any())),
            _ => None,
        }
    });
    let reports = facts.masters.values().flatten();
    let workers = reports
        .flat_map(|report| &report.workers)
        .map(|worker| worker.host.clone());
    let advertised = workers.filter(|host| host.parse::<std::net::IpAddr>().is_err() && is_host(host));
    let mut names: Vec<_> = of_pods.chain(advertised).collect();
    names.sort();
    names.dedup();
    names
}

fn is_host(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

/// Where its first container may write.
fn volumes(pod: &Pod) -> Vec<&str> {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let mounts = container.and_then(|container| container.volume_mounts.as_deref());
    let writable = mounts
        .into_iter()
        .flatten()
        .filter(|mount| mount.read_only != Some(true));
    writable.map(|mount| mount.mount_path.as_str()).collect()
}

async fn query_pod(
    cluster: &Cluster,
    pod: &Pod,
    targets: &[ConnectTarget],
    names: &[String],
) -> Result<PodReport, kubernetes::Error> {
    let mut command: Vec<String> = ["bash", "-c", SCRIPT, "bash"].map(str::to_owned).into();
    for target in targets {
        command.extend(["reach".to_owned(), target.address.clone(), target.port.to_string()]);
    }
    for name in names {
        command.extend(["resolve".to_owned(), name.clone()]);
    }
    let volumes = volumes(pod);
    for path in &volumes {
        command.extend(["disk".to_owned(), (*path).to_owned()]);
    }
    let started = now();
    let text = output_of(cluster, &pod.name_any(), &command).await?;
    Ok(parse(&pod.name_any(), &text, (targets, &volumes), (started, now())))
}

/// What a pod says about these targets and volumes.
fn parse(pod: &str, text: &str, (targets, volumes): (&[ConnectTarget], &[&str]), during: (f64, f64)) -> PodReport {
    let mut report = PodReport {
        pod: pod.to_owned(),
        ..PodReport::default()
    };
    let at = |address: &str, port: &str| {
        let is_it = |target: &&ConnectTarget| target.address == address && target.port.to_string() == port;
        targets.iter().find(is_it).cloned()
    };
    let mut disks = BTreeSet::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let port = |outcome, address, port| at(address, port).map(|target| Port { target, outcome });
        let name = |outcome, name: &str| Lookup {
            name: name.to_owned(),
            outcome,
        };
        match words[..] {
            ["time", time] => {
                report.clock = time.parse().ok().map(|time| ClockReading::within(pod, time, during));
            }
            ["open", address, number] => report.ports.extend(port(Reachability::Open, address, number)),
            ["refused", address, number] => report.ports.extend(port(Reachability::Refused, address, number)),
            ["silent", address, number] => report.ports.extend(port(Reachability::Silent, address, number)),
            ["known", text] => report.names.push(name(Resolution::Known, text)),
            ["unknown", text] => report.names.push(name(Resolution::Unknown, text)),
            ["unanswered", text] => report.names.push(name(Resolution::Unanswered, text)),
            // df: device, blocks, used, available, used in percent, path.
            ["disk", device, blocks, used, available, _, path] if volumes.contains(&path) => {
                let percent_used = used.parse().ok().zip(available.parse().ok());
                let percent_used = percent_used.and_then(|(used, available)| percent_used_of(used, available));
                // Several volumes may be on one disk.
                let is_new = disks.insert((device, blocks, used));
                report
                    .disks
                    .extend(percent_used.filter(|_| is_new).map(|percent_used| Disk {
                        path: path.to_owned(),
                        percent_used,
                    }));
            }
            _ => {}
        }
    }
    // In the order of the queries, independent of which was answered first.
    let place = |target: &ConnectTarget| targets.iter().position(|other| other == target);
    report.ports.sort_by_key(|port| place(&port.target));
    report.names.sort_by(|a, b| a.name.cmp(&b.name));
    report
}

/// How much of a disk is used, in percent, by its used and available KiB; `None` for one without blocks. Less than a MiB, and less than a
/// hundredth of the disk, is not enough to write. `df` itself rounds up, so that a large disk seems full.
fn percent_used_of(used: u64, available: u64) -> Option<u8> {
    let percent = used.saturating_mul(100).checked_div(used.saturating_add(available))?;
    let is_full = available < 1024 && percent == 99;
    u8::try_from(percent + u64::from(is_full)).ok()
}

/// Runs a command in a pod's first container. Returns what it wrote to its standard output in time.
async fn output_of(cluster: &Cluster, pod: &str, command: &[String]) -> Result<String, kubernetes::Error> {
    let api = cluster.api::<Pod>();
    let action = format!("run a check in {pod}");
    let params = AttachParams::default().stderr(false);
    let mut process = cluster.call(&action, || api.exec(pod, command.iter(), &params)).await?;
    let mut text = String::new();
    if let Some(stdout) = process.stdout() {
        let mut stdout = stdout.take(1 << 20);
        let _ = tokio::time::timeout(TIMEOUT, stdout.read_to_string(&mut text)).await;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_queries() {
        let target = |name: &str, address: &str| ConnectTarget {
            name: name.into(),
            is_service: false,
            address: address.into(),
            port: 7077,
        };
        let targets = [target("a", "10.0.0.1"), target("b", "10.0.0.2")];
        let text = "time 100.5\nsilent 10.0.0.2 7077\nunknown x\nopen 10.0.0.1 7077\nknown b\nopen 10.0.0.9 7077\nnoise\n\
             disk Filesystem 1024-blocks Used Available Capacity Mounted on\n\
             disk /dev/vda 100 40 60 40% /tmp\ndisk /dev/vda 100 40 60 40% /work\ndisk filer:/x 10 10 0 100% /data\n\
             disk x 10 10 0 100% /not-asked\n";
        let report = parse("p", text, (&targets, &["/tmp", "/work", "/data"]), (100.0, 101.0));
        let outcomes: Vec<_> = report
            .ports
            .iter()
            .map(|port| (port.target.name.as_str(), port.outcome))
            .collect();
        assert_eq!(outcomes, [("a", Reachability::Open), ("b", Reachability::Silent)]);
        let names: Vec<_> = report
            .names
            .iter()
            .map(|name| (name.name.as_str(), name.outcome))
            .collect();
        assert_eq!(names, [("b", Resolution::Known), ("x", Resolution::Unknown)]);
        let disks: Vec<_> = report
            .disks
            .iter()
            .map(|disk| (disk.path.as_str(), disk.percent_used))
            .collect();
        assert_eq!(disks, [("/tmp", 40), ("/data", 100)]);
        assert_eq!(report.clock.unwrap().offset(), 0.0);
    }

    #[test]
    fn a_large_disk_with_a_hundredth_free_is_not_full() {
        let terabytes = 4 << 30;
        let free = 30 << 20;
        assert_eq!(percent_used_of(terabytes - free, free), Some(99));
        assert_eq!(percent_used_of(1 << 20, 0), Some(100));
        assert_eq!(percent_used_of(1 << 20, 1023), Some(100));
        assert_eq!(percent_used_of(0, 64), Some(0));
        assert_eq!(percent_used_of(0, 0), None);
    }

    #[test]
    fn only_host_names_are_queried() {
        assert!(is_host("spark-worker-0"));
        assert!(!is_host("$(reboot)"));
    }
}
