//! The pod in which `sparkha submit` runs an application's driver. Its template is rendered with the cluster and stored in its ConfigMap.
//! So submit needs no cluster file, and a driver has the workers' image, mounts and environment.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::paths::{CONF_DIR, STATE_DIR};
use super::pods::{self, PodPlan, StateVolume};
use super::workloads::masters_url;
use crate::model::labels::Component;
use crate::spec::quantity::{Cpu, Memory};
use crate::spec::{ClusterSpec, PodSettings, Resources, Volume, VolumeSource};

/// Key of the template in the ConfigMap.
pub const TEMPLATE: &str = "driver.json";
/// Key of the script in the ConfigMap.
pub const SCRIPT: &str = "driver.sh";
/// Infix of a driver pod's name, after the cluster's name.
pub const INFIX: &str = "-driver-";
/// Number of hexadecimal digits that follow.
pub const DIGITS: usize = 8;
/// Name of the container, and of its log.
pub const CONTAINER: &str = Component::Driver.as_str();
/// Annotation of a pod that is kept after its end: only `sparkha jobs --kill` and teardown remove it.
pub const KEEP: &str = "sparkha/keep";

/// Off-heap memory of a driver: the minimum (Spark's own), and the share of the heap. It includes Python's and pandas' memory.
const OVERHEAD_MIN: Memory = Memory::from_mib(384);
const OVERHEAD_SHARE: f64 = 0.1;
const PYTHON_OVERHEAD_SHARE: f64 = 0.4;

/// Prefix of a line of standard error in a driver's log.
pub const ERROR_MARK: u8 = 0x1e;

/// The last line of the script on standard output and on standard error: a reader that has both has every line.
pub const END_OF_OUTPUT: &[u8] = b"\x1d\x04";
pub const END_OF_ERRORS: &[u8] = b"\x1d\x1e\x04";

/// Whether a script marks the end of its log. Scripts of clusters created by older versions do not.
pub fn marks_end(script: &str) -> bool {
    script.contains(r"\x1d\x04") && script.contains(r"\x1d\x1e\x04")
}

/// The cluster of a driver, if the name is that of a driver pod created by sparkha.
pub fn cluster_of(name: &str) -> Option<&str> {
    let (cluster, digits) = name.rsplit_once(INFIX)?;
    let is_digest = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then_some(cluster)
}

/// The settings of one driver.
#[derive(Clone, Debug, PartialEq)]
pub struct Driver {
    pub name: String,
    /// An image other than the cluster's.
    pub image: Option<String>,
    pub heap: Memory,
    pub cores: u32,
    pub python: bool,
    /// Whether the pod is kept after its end.
    pub keep: bool,
    /// Standard output and standard error share one log, as on Kubernetes: the script marks lines of standard error.
    pub one_log: bool,
}

/// The template as JSON.
pub fn template(spec: &ClusterSpec) -> String {
    let workers = &spec.workers.pod;
    let settings = PodSettings {
        env: workers.env.clone(),
        // Drivers read the same paths as executors.
        volumes: workers
            .volumes
            .iter()
            .filter(|volume| is_shared(volume))
            .cloned()
            .collect(),
        node_selector: workers.node_selector.clone(),
        tolerations: workers.tolerations.clone(),
        priority_class: workers.priority_class.clone(),
        ..PodSettings::default()
    };
    let work = format!("{STATE_DIR}/driver");
    let plan = PodPlan {
        component: Component::Driver,
        settings: &settings,
        command: pods::script(SCRIPT),
        args: vec![],
        env: vec![
            pods::field_env("POD_IP", "status.podIP"),
            pods::field_env("POD_NAMESPACE", "metadata.namespace"),
            pods::env("SPARK_CONF_DIR", CONF_DIR),
            pods::env("SPARKHA_MASTER_URL", masters_url(&spec.name, spec.masters.count)),
            pods::env("SPARKHA_UI_DOMAIN", &spec.web_ui.domain),
            pods::env("SPARKHA_DRIVER_DIR", &work),
            // Ivy and Python need a writable home.
            pods::env("HOME", "/tmp"),
        ],
        ports: vec![],
        readiness: None,
        liveness: None,
        state: Some(StateVolume {
            name: "work",
            mount_path: work,
            source: VolumeSource::empty_dir(pods::WORK_LIMIT),
        }),
        termination_grace_seconds: 30,
    };
    let template = pods::template(spec, None, plan);
    let mut pod = Pod {
        metadata: template.metadata.unwrap_or_default(),
        spec: template.spec,
        status: None,
    };
    if let Some(spec) = &mut pod.spec {
        spec.restart_policy = Some("Never".into());
    }
    // Serialising k8s-openapi's types cannot fail.
    serde_json::to_string_pretty(&pod).unwrap_or_default() + "\n"
}

/// Whether several pods can mount the volume: a driver cannot mount a worker's own claim.
fn is_shared(volume: &Volume) -> bool {
    !matches!(volume.source, VolumeSource::NewClaim(_))
}

/// The pod of one driver.
pub fn pod(template: Pod, driver: &Driver) -> Pod {
    let Pod { metadata, spec, .. } = template;
    let labels = metadata.labels;
    let mut annotations = metadata.annotations.unwrap_or_default();
    if driver.keep {
        annotations.insert(KEEP.into(), "true".into());
    }
    let mut pod = Pod {
        metadata: ObjectMeta {
            name: Some(driver.name.clone()),
            labels,
            annotations: Some(annotations),
            ..Default::default()
        },
        spec,
        status: None,
    };
    for container in pod.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
        container.resources = Some(pods::resource_requirements(&resources(driver)));
        if driver.image.is_some() {
            container.image = driver.image.clone();
        }
        if driver.one_log {
            let env = container.env.get_or_insert_default();
            env.push(pods::env("SPARKHA_MARK_ERRORS", "true"));
        }
    }
    pod
}

fn resources(driver: &Driver) -> Resources {
    let share = if driver.python {
        PYTHON_OVERHEAD_SHARE
    } else {
        OVERHEAD_SHARE
    };
    let memory = driver.heap + driver.heap.share(share).max(OVERHEAD_MIN);
    let memory = Memory::from_mib(memory.mib());
    Resources {
        cpu_request: Cpu::from_millis(driver.cores.saturating_mul(250)),
        // One more core for the compiler and the garbage collector: a driver's start is CPU-bound.
        cpu_limit: Cpu::from_cores(driver.cores.saturating_add(1)),
        memory_request: memory,
        memory_limit: memory,
        disk_request: None,
        disk_limit: None,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::spec::resolve::{Source, resolve};

    pub fn driver() -> Driver {
        Driver {
            name: "spark-driver-1".into(),
            image: None,
            heap: Memory::from_mib(1024),
            cores: 1,
            python: true,
            keep: false,
            one_log: true,
        }
    }

    fn pod_of(text: &str, driver: &Driver) -> Pod {
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        pod(serde_json::from_str(&template(&spec)).unwrap(), driver)
    }

    #[test]
    fn a_driver_is_a_pod_with_the_mounts_and_environment_of_workers() {
        let pod = pod_of(
            "s3: {endpoint: 'http://minio:9000', secret: {name: keys}}\n\
             workers: {nodeSelector: {disk: ssd}, volumes: [{name: data-in, mountPath: /in, hostPath: {path: /in}},\
             {name: own, mountPath: /own, newClaim: {size: 1Gi}}]}",
            &driver(),
        );
        let labels = pod.metadata.labels.as_ref().unwrap();
        assert_eq!(labels["app.kubernetes.io/component"], "driver");
        assert_eq!(labels["app.kubernetes.io/instance"], "spark");
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!(spec.node_selector.as_ref().unwrap()["disk"], "ssd");
        let volumes: Vec<_> = spec
            .volumes
            .iter()
            .flatten()
            .map(|volume| volume.name.as_str())
            .collect();
        for volume in ["conf", "auth", "s3-keys", "work", "data-in"] {
            assert!(volumes.contains(&volume), "{volume}: {volumes:?}");
        }
        assert!(!volumes.contains(&"own"), "{volumes:?}");
        let container = &spec.containers[0];
        assert!(container.args.is_none(), "nothing of the user's may stand in the pod");
        let environment: Vec<_> = container.env.iter().flatten().map(|env| env.name.as_str()).collect();
        assert!(environment.contains(&"AWS_SHARED_CREDENTIALS_FILE"), "{environment:?}");
    }

    #[test]
    fn the_script_marks_its_end_with_the_expected_bytes() {
        let script = include_str!("files/driver.sh");
        assert!(marks_end(script) && !marks_end("exit"));
        let written = |mark: &[u8]| mark.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        for mark in [END_OF_OUTPUT, END_OF_ERRORS] {
            assert!(script.contains(&format!("{}\\n", written(mark))));
        }
    }

    #[test]
    fn its_resources_are_computed_from_its_heap() {
        let of = |driver: &Driver| {
            let pod = pod_of("", driver);
            let resources = pod.spec.unwrap().containers[0].resources.clone().unwrap();
            let limits = resources.limits.unwrap();
            (
                resources.requests.unwrap()["cpu"].0.clone(),
                limits["cpu"].0.clone(),
                limits["memory"].0.clone(),
            )
        };
        assert_eq!(of(&driver()), ("250m".into(), "2".into(), "1433Mi".into()));
        let large = Driver {
            heap: Memory::from_mib(10240),
            cores: 4,
            python: false,
            ..driver()
        };
        assert_eq!(of(&large), ("1".into(), "5".into(), "11Gi".into()));
    }
}
