//! StatefulSets: masters, workers, managed ZooKeepers, the history server and the Spark Connect server. [`super::pods`] has the settings that their pods share.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    ConfigMap, ContainerPort, EnvVar, ExecAction, HTTPGetAction, PersistentVolumeClaim, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::auth::zookeeper_secret;
use super::paths::STATE_DIR;
use super::pods::{self, PodPlan, StateVolume};
use super::services::{self, NamedPort};
use super::znodes::{zookeeper_directory, zookeeper_url};
use crate::model::labels::{Component, metadata, selector};
use crate::model::ports::{
    CONNECT_PORT, CONNECT_UI_PORT, HISTORY_UI_PORT, MASTER_PORT, MASTER_UI_PORT, WORKER_PORT, WORKER_UI_PORT,
    ZOOKEEPER_PORT,
};
use crate::model::reports::MASTER_STATUS_PATH;
use crate::spec::names::ClusterName;
use crate::spec::{ClusterSpec, Connect, History, ManagedZooKeeper, NewClaim, Recovery, VolumeSource};

/// Update strategy of StatefulSets whose pods sparkha does not replace itself.
pub const ROLLING_UPDATE: &str = "RollingUpdate";
/// The update strategy that replaces a pod only when it is deleted.
pub const ON_DELETE: &str = "OnDelete";

/// The StatefulSets in the order of their dependencies.
pub fn stateful_sets(spec: &ClusterSpec, config: &ConfigMap) -> Vec<StatefulSet> {
    let mut sets = Vec::new();
    if let Recovery::ManagedZooKeeper(zookeeper) = &spec.recovery {
        sets.push(zookeeper_set(spec, zookeeper, config));
    }
    sets.push(master_set(spec, config));
    sets.push(worker_set(spec, config));
    if let Some(history) = &spec.history {
        sets.push(history_set(spec, history, config));
    }
    if let Some(connect) = &spec.connect {
        sets.push(connect_set(spec, connect, config));
    }
    sets
}

fn master_set(spec: &ClusterSpec, config: &ConfigMap) -> StatefulSet {
    let mut env = vec![
        pods::field_env("POD_IP", "status.podIP"),
        pods::field_env("POD_NAMESPACE", "metadata.namespace"),
        // The name of the pod is the name of its Service: see services.rs.
        pods::field_env("SPARK_MASTER_HOST", "metadata.name"),
        pods::env("SPARK_MASTER_PORT", MASTER_PORT),
        pods::env("SPARK_MASTER_WEBUI_PORT", MASTER_UI_PORT),
    ];
    env.extend(daemon_env(spec, &spec.masters.daemon_memory.spark()));
    let state = match &spec.recovery {
        Recovery::FileSystem { storage } => Some(state_volume(storage.as_ref(), "recovery")),
        _ => None,
    };
    let plan = PodPlan {
        component: Component::Master,
        settings: &spec.masters.pod,
        command: pods::script("master.sh"),
        args: zookeeper_url(spec)
            .into_iter()
            .chain(zookeeper_directory(spec))
            .collect(),
        env,
        ports: container_ports(&services::MASTER),
        // Standby and leader both serve the page, and both are healthy.
        readiness: Some(Probe {
            period_seconds: Some(1),
            failure_threshold: Some(5),
            ..http_probe(MASTER_STATUS_PATH, MASTER_UI_PORT)
        }),
        liveness: Some(http_probe(MASTER_STATUS_PATH, MASTER_UI_PORT)),
        state,
        termination_grace_seconds: 10,
    };
    stateful_set(spec, config, spec.masters.count, plan)
}

fn worker_set(spec: &ClusterSpec, config: &ConfigMap) -> StatefulSet {
    let workers = &spec.workers;
    let shuffle_dir = format!("{STATE_DIR}/shuffle");
    let mut env = vec![
        pods::field_env("POD_IP", "status.podIP"),
        pods::field_env("POD_NAMESPACE", "metadata.namespace"),
        // Others connect directly to executors and shuffle blocks, on ports that no Service forwards.
        pods::field_env("SPARK_LOCAL_HOSTNAME", "status.podIP"),
        pods::env("SPARK_WORKER_PORT", WORKER_PORT),
        pods::env("SPARK_WORKER_WEBUI_PORT", WORKER_UI_PORT),
        pods::env("SPARK_WORKER_CORES", workers.offer.cores),
        pods::env("SPARK_WORKER_MEMORY", workers.offer.memory.spark()),
        pods::env("SPARK_WORKER_DIR", format!("{STATE_DIR}/work")),
        pods::env("SPARK_LOCAL_DIRS", &shuffle_dir),
        pods::env("SPARKHA_DRAIN_SECONDS", workers.drain_seconds),
        // Ivy and Python need a writable home.
        pods::env("HOME", "/tmp"),
    ];
    env.extend(daemon_env(spec, &workers.daemon_memory.spark()));
    let plan = PodPlan {
        component: Component::Worker,
        settings: &workers.pod,
        command: pods::script("worker.sh"),
        args: vec![masters_url(&spec.name, spec.masters.count)],
        env,
        ports: container_ports(&services::WORKER),
        readiness: Some(Probe {
            period_seconds: Some(2),
            failure_threshold: Some(3),
            ..http_probe("/json/", WORKER_UI_PORT)
        }),
        liveness: Some(http_probe("/json/", WORKER_UI_PORT)),
        state: Some(StateVolume {
            name: "shuffle",
            mount_path: shuffle_dir,
            source: workers.shuffle.clone(),
        }),
        // Time after the drain, for the worker's own shutdown.
        termination_grace_seconds: i64::from(workers.drain_seconds) + 30,
    };
    let mut set = stateful_set(spec, config, workers.count, plan);
    if workers.autoscale.is_some() {
        // The autoscaler owns the number; applying the StatefulSet keeps it.
        set.spec.replicas = None;
    }
    set
}

fn zookeeper_set(spec: &ClusterSpec, zookeeper: &ManagedZooKeeper, config: &ConfigMap) -> StatefulSet {
    let heap = zookeeper.daemon_memory.spark();
    // A restarted peer has another address: do not cache addresses or failed lookups for long.
    let options = format!(
        "-Xms{heap} -Xmx{heap} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
         -Dsun.net.inetaddr.ttl=5 -Dsun.net.inetaddr.negative.ttl=0"
    );
    let plan = PodPlan {
        component: Component::ZooKeeper,
        settings: &zookeeper.pod,
        command: pods::script("zookeeper.sh"),
        // Servers with and without it cannot form a quorum. A change of arguments replaces all pods at once.
        args: (zookeeper.count > 1 && zookeeper_secret(spec).is_some())
            .then(|| "quorum-auth".to_owned())
            .into_iter()
            .collect(),
        env: vec![
            pods::env("SPARK_CONF_DIR", super::paths::CONF_DIR),
            pods::env("ZOOKEEPER_JAVA_OPTS", options),
        ],
        ports: container_ports(&services::ZOOKEEPER),
        // The port is open long before there is a quorum. Only a member of a quorum reports its mode.
        readiness: Some(Probe {
            exec: Some(ExecAction {
                command: Some(
                    [
                        "/bin/bash",
                        "-c",
                        "exec 3<>/dev/tcp/${SPARK_LOCAL_IP:-127.0.0.1}/2181 && printf srvr >&3 && grep -q ^Mode: <&3",
                    ]
                    .map(str::to_owned)
                    .into(),
                ),
            }),
            period_seconds: Some(2),
            timeout_seconds: Some(5),
            ..Default::default()
        }),
        liveness: Some(Probe {
            tcp_socket: Some(TCPSocketAction {
                port: IntOrString::Int(i32::from(ZOOKEEPER_PORT)),
                ..Default::default()
            }),
            ..liveness_timing()
        }),
        state: Some(state_volume(zookeeper.storage.as_ref(), "zookeeper")),
        termination_grace_seconds: 10,
    };
    stateful_set(spec, config, zookeeper.count, plan)
}

fn history_set(spec: &ClusterSpec, history: &History, config: &ConfigMap) -> StatefulSet {
    let mut env = vec![pods::field_env("POD_NAMESPACE", "metadata.namespace")];
    env.extend(daemon_env(spec, &history.daemon_memory.spark()));
    let probe = http_probe("/api/v1/version", HISTORY_UI_PORT);
    let plan = PodPlan {
        component: Component::History,
        settings: &history.pod,
        command: pods::script("history.sh"),
        args: vec![],
        env,
        ports: container_ports(&services::HISTORY),
        readiness: Some(Probe {
            period_seconds: Some(2),
            failure_threshold: Some(3),
            ..probe.clone()
        }),
        liveness: Some(probe),
        state: pods::event_logs(spec),
        termination_grace_seconds: 10,
    };
    stateful_set(spec, config, 1, plan)
}

fn connect_set(spec: &ClusterSpec, connect: &Connect, config: &ConfigMap) -> StatefulSet {
    let plan = PodPlan {
        component: Component::Connect,
        settings: &connect.pod,
        command: pods::script("connect.sh"),
        args: vec![masters_url(&spec.name, spec.masters.count)],
        env: vec![
            pods::field_env("POD_IP", "status.podIP"),
            pods::field_env("POD_NAMESPACE", "metadata.namespace"),
            pods::env("SPARK_CONF_DIR", super::paths::CONF_DIR),
            // Ivy and Python need a writable home.
            pods::env("HOME", "/tmp"),
            pods::env("SPARKHA_UI_DOMAIN", &spec.web_ui.domain),
        ],
        ports: container_ports(&[("grpc", CONNECT_PORT), ("ui", CONNECT_UI_PORT)]),
        // If its application was killed, the server still listens but cannot run queries. Its web UI is then gone, of
        // which this page comes last, after the port for clients.
        readiness: Some(Probe {
            period_seconds: Some(2),
            failure_threshold: Some(3),
            ..http_probe("/connect/", CONNECT_UI_PORT)
        }),
        liveness: Some(http_probe("/api/v1/version", CONNECT_UI_PORT)),
        state: None,
        termination_grace_seconds: 30,
    };
    stateful_set(spec, config, 1, plan)
}

/// `spark://` with every master: the URL for workers and drivers.
pub fn masters_url(name: &ClusterName, masters: u32) -> String {
    let masters: Vec<_> = (0..masters)
        .map(|ordinal| format!("{}:{MASTER_PORT}", name.master(ordinal)))
        .collect();
    format!("spark://{}", masters.join(","))
}

fn stateful_set(spec: &ClusterSpec, config: &ConfigMap, replicas: u32, plan: PodPlan<'_>) -> StatefulSet {
    let component = plan.component;
    let name = component.object_name(&spec.name);
    let service = match component {
        Component::Master => spec.name.masters_service(),
        Component::Worker => spec.name.workers_service(),
        _ => name.clone(),
    };
    let claims = pods::claim_templates(spec, &plan);
    StatefulSet {
        metadata: metadata(spec, name, component),
        spec: StatefulSetSpec {
            replicas: Some(replicas as i32),
            service_name: Some(service),
            selector: selector(spec, component),
            // Members start in parallel: a single ZooKeeper server never becomes ready.
            pod_management_policy: Some("Parallel".into()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some(ROLLING_UPDATE.into()),
                ..Default::default()
            }),
            revision_history_limit: Some(3),
            template: pods::template(spec, Some(config), plan),
            volume_claim_templates: Some(claims).filter(|claims: &Vec<PersistentVolumeClaim>| !claims.is_empty()),
            ..Default::default()
        },
        ..Default::default()
    }
}

/// Environment of every Spark daemon.
fn daemon_env(spec: &ClusterSpec, heap: &str) -> Vec<EnvVar> {
    vec![
        pods::env("SPARK_CONF_DIR", super::paths::CONF_DIR),
        pods::env("SPARK_DAEMON_MEMORY", heap),
        // The daemons are small and must start quickly; executors do not get these options.
        pods::env(
            "SPARK_DAEMON_JAVA_OPTS",
            "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dsun.net.inetaddr.ttl=5 -Dsun.net.inetaddr.negative.ttl=0",
        ),
        pods::env("SPARKHA_UI_DOMAIN", &spec.web_ui.domain),
    ]
}

fn state_volume(storage: Option<&NewClaim>, directory: &str) -> StateVolume {
    StateVolume {
        name: "data",
        mount_path: format!("{STATE_DIR}/{directory}"),
        source: match storage {
            Some(claim) => VolumeSource::NewClaim(claim.clone()),
            None => VolumeSource::empty_dir(pods::DATA_LIMIT),
        },
    }
}

fn container_ports(named_ports: &[NamedPort]) -> Vec<ContainerPort> {
    named_ports
        .iter()
        .map(|&(name, port)| ContainerPort {
            name: Some(name.into()),
            container_port: i32::from(port),
            protocol: Some("TCP".into()),
            ..Default::default()
        })
        .collect()
}

fn http_probe(path: &str, port: u16) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(i32::from(port)),
            ..Default::default()
        }),
        ..liveness_timing()
    }
}

/// A long timeout: restarting a master is more expensive than a slow one.
fn liveness_timing() -> Probe {
    Probe {
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(6),
        ..Default::default()
    }
}
