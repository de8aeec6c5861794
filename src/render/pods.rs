//! The pod template that all components share. It meets the *restricted* Pod Security level (user 185, no
//! capabilities, read-only root, no service account token); all other fields come from its plan and the user's settings.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMap, ConfigMapKeySelector, ConfigMapVolumeSource, Container, ContainerPort,
    EmptyDirVolumeSource, EnvVar, EnvVarSource, HostPathVolumeSource, LocalObjectReference, NFSVolumeSource,
    ObjectFieldSelector, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource,
    PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    SeccompProfile, SecretKeySelector, SecretVolumeSource, SecurityContext, Toleration, TopologySpreadConstraint,
    Volume, VolumeMount, VolumeResourceRequirements, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::auth::{
    AUTH_DIR, AUTH_VOLUME, S3_CREDENTIALS, S3_CREDENTIALS_VARIABLE, S3_DIR, S3_SCRIPT, S3_VOLUME, TLS_DIR, TLS_VOLUME,
    ZOOKEEPER_AUTH_DIR, ZOOKEEPER_AUTH_VOLUME, certificate, s3_secret, spark_secret, zookeeper_secret,
};
use super::digest::digest;
use super::paths::{CONF_DIR, EVENTS_DIR, STATE_DIR};
use crate::model::labels::{Component, identity, labels, non_empty, selector};
use crate::render::protection;
use crate::spec::quantity::{Cpu, Memory};
use crate::spec::{AntiAffinity, ClusterSpec, EnvValue, EventLogs, NewClaim, PodSettings, Resources, VolumeSource};

/// Limits of emptyDirs: far above normal use, so that a pod that fills its node's disk is evicted before others.
/// Temporary files.
pub const TMP_LIMIT: Memory = Memory::from_mib(10 * 1024);
/// Executors' logs, applications' files, and files sent to a driver.
pub const WORK_LIMIT: Memory = Memory::from_mib(20 * 1024);
/// State of masters and ZooKeeper servers.
pub const DATA_LIMIT: Memory = Memory::from_mib(10 * 1024);

/// User and group of the official Spark images.
const SPARK_UID: i64 = 185;

/// Annotation of pods: a digest of the files they read.
const CONFIG_DIGEST: &str = "sparkha/config-digest";
/// Annotation of masters and workers: see [`protection::rpc_protection`].
pub const RPC_PROTECTION: &str = "sparkha/rpc";
/// Name of the volume with event logs.
pub const EVENTS: &str = "events";

/// The settings of one component's pods.
pub struct PodPlan<'a> {
    pub component: Component,
    pub settings: &'a PodSettings,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<EnvVar>,
    pub ports: Vec<ContainerPort>,
    /// `None` for drivers, which end themselves.
    pub readiness: Option<Probe>,
    pub liveness: Option<Probe>,
    pub state: Option<StateVolume>,
    pub termination_grace_seconds: i64,
}

/// The volume for a component's persistent state.
pub struct StateVolume {
    pub name: &'static str,
    pub mount_path: String,
    pub source: VolumeSource,
}

/// `config`: the ConfigMap whose changes restart the pods, if any.
pub fn template(spec: &ClusterSpec, config: Option<&ConfigMap>, plan: PodPlan<'_>) -> PodTemplateSpec {
    let settings = plan.settings;
    let mut pod_labels = labels(spec, plan.component);
    // Users cannot set sparkha's own.
    pod_labels.extend(settings.labels.clone());
    let mut annotations = spec.annotations.clone();
    annotations.extend(super::metrics::annotations(spec, plan.component));
    annotations.extend(settings.annotations.clone());
    annotations.extend(config.map(|config| (CONFIG_DIGEST.into(), digest(config, plan.component))));
    if matches!(plan.component, Component::Master | Component::Worker)
        && let Some(protection) = protection::rpc_protection(spec)
    {
        annotations.insert(RPC_PROTECTION.into(), protection.into());
    }
    let pull_secrets: Vec<_> = spec
        .image
        .pull_secrets
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    let (volumes, mounts) = volumes(spec, &plan);
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(annotations),
            ..Default::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(spec.name.service_account()),
            automount_service_account_token: Some(false),
            // A Service named spark-master would inject SPARK_MASTER_PORT=tcp://…, with which Spark fails.
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(SPARK_UID),
                run_as_group: Some(SPARK_UID),
                fs_group: Some(SPARK_UID),
                fs_group_change_policy: Some("OnRootMismatch".into()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            termination_grace_period_seconds: Some(plan.termination_grace_seconds),
            image_pull_secrets: Some(pull_secrets).filter(|secrets| !secrets.is_empty()),
            node_selector: non_empty(settings.node_selector.clone()),
            tolerations: Some(tolerations(settings, plan.component)).filter(|tolerations| !tolerations.is_empty()),
            affinity: Some(
                settings
                    .affinity
                    .clone()
                    .unwrap_or_else(|| apart(spec, plan.component, settings.anti_affinity)),
            ),
            topology_spread_constraints: Some(topology_spread(spec, &plan))
                .filter(|constraints| !constraints.is_empty()),
            priority_class_name: settings.priority_class.clone(),
            volumes: Some(volumes),
            containers: vec![container(spec, plan, mounts)],
            ..Default::default()
        }),
    }
}

fn container(spec: &ClusterSpec, plan: PodPlan<'_>, mounts: Vec<VolumeMount>) -> Container {
    let user_env = user_env(spec, plan.settings, plan.component);
    let mut env = plan.env;
    // The cluster file may set another HOME.
    env.retain(|own| !user_env.iter().any(|user| user.name == own.name));
    env.extend(user_env);
    let mut command = plan.command;
    if s3_secret(spec, plan.component).is_some() {
        command = [script(S3_SCRIPT), command].concat();
    }
    Container {
        name: plan.component.as_str().into(),
        image: Some(spec.image.name.to_string()),
        image_pull_policy: spec.image.pull_policy.map(|policy| format!("{policy:?}")),
        command: Some(command),
        args: Some(plan.args).filter(|args| !args.is_empty()),
        env: Some(env),
        ports: Some(plan.ports),
        startup_probe: plan.liveness.clone().map(startup),
        readiness_probe: plan.readiness,
        liveness_probe: plan.liveness,
        resources: Some(resource_requirements(&plan.settings.resources)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                ..Default::default()
            }),
            ..Default::default()
        }),
        volume_mounts: Some(mounts),
        ..Default::default()
    }
}

/// The cluster's environment, overridden by the component's own.
fn user_env(spec: &ClusterSpec, settings: &PodSettings, component: Component) -> Vec<EnvVar> {
    let mut env: BTreeMap<String, EnvValue> = BTreeMap::new();
    if s3_secret(spec, component).is_some() {
        let file = EnvValue::Value(S3_CREDENTIALS.into());
        env.insert(S3_CREDENTIALS_VARIABLE.into(), file);
    }
    // ZooKeeper does not need it.
    if component != Component::ZooKeeper {
        env.extend(spec.env.clone());
    }
    env.extend(settings.env.clone());
    env.into_iter().map(|(name, value)| env_var(name, value)).collect()
}

fn env_var(name: String, value: EnvValue) -> EnvVar {
    let optional = None;
    let mut source = EnvVarSource::default();
    match value {
        EnvValue::Value(value) => {
            return EnvVar {
                name,
                value: Some(value),
                value_from: None,
            };
        }
        EnvValue::SecretKey { name, key } => source.secret_key_ref = Some(SecretKeySelector { name, key, optional }),
        EnvValue::ConfigMapKey { name, key } => {
            source.config_map_key_ref = Some(ConfigMapKeySelector { name, key, optional });
        }
    }
    env_from(name, source)
}

fn env_from(name: String, source: EnvVarSource) -> EnvVar {
    EnvVar {
        name,
        value: None,
        value_from: Some(source),
    }
}

/// The command that runs a script of the ConfigMap.
pub fn script(name: &str) -> Vec<String> {
    vec!["/bin/bash".into(), format!("{CONF_DIR}/{name}")]
}

/// An environment variable with a plain value.
pub fn env(name: &str, value: impl ToString) -> EnvVar {
    env_var(name.to_owned(), EnvValue::Value(value.to_string()))
}

/// An environment variable from the pod's own fields.
pub fn field_env(name: &str, path: &str) -> EnvVar {
    let source = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            field_path: path.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    env_from(name.to_owned(), source)
}

/// Anti-affinity that places pods of a component on different nodes: if possible, or always.
fn apart(spec: &ClusterSpec, component: Component, strictness: AntiAffinity) -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(selector(spec, component)),
        topology_key: "kubernetes.io/hostname".into(),
        ..Default::default()
    };
    let anti_affinity = match strictness {
        AntiAffinity::Required => PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![term]),
            ..Default::default()
        },
        AntiAffinity::Preferred => PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: term,
            }]),
            ..Default::default()
        },
    };
    Affinity {
        pod_anti_affinity: Some(anti_affinity),
        ..Default::default()
    }
}

fn topology_spread(spec: &ClusterSpec, plan: &PodPlan<'_>) -> Vec<TopologySpreadConstraint> {
    let constraints = plan.settings.topology_spread.iter().cloned();
    let selected = constraints.map(|constraint| TopologySpreadConstraint {
        label_selector: constraint
            .label_selector
            .or_else(|| Some(selector(spec, plan.component))),
        ..constraint
    });
    selected.collect()
}

/// The user's tolerations. Stateful members also tolerate an unreachable node: Kubernetes would evict them after 300 s. That gains nothing,
/// because a StatefulSet replaces a pod only after its node confirms the end. But the returning node would then end all of them, and delete
/// their emptyDirs: after a partition of two of three ZooKeeper servers, the cluster's state.
fn tolerations(settings: &PodSettings, component: Component) -> Vec<Toleration> {
    const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
    const NO_EXECUTE: &str = "NoExecute";
    let mut tolerations = settings.tolerations.clone();
    // Kubernetes takes a missing key or effect as any.
    let covers = |field: &Option<String>, value| field.as_deref().is_none_or(|own| own.is_empty() || own == value);
    let is_said =
        |toleration: &Toleration| covers(&toleration.key, UNREACHABLE) && covers(&toleration.effect, NO_EXECUTE);
    if !tolerations.iter().any(is_said)
        && matches!(component, Component::Master | Component::ZooKeeper | Component::Worker)
    {
        tolerations.push(Toleration {
            key: Some(UNREACHABLE.into()),
            operator: Some("Exists".into()),
            effect: Some(NO_EXECUTE.into()),
            ..Default::default()
        });
    }
    tolerations
}

pub fn resource_requirements(resources: &Resources) -> ResourceRequirements {
    let quantities = |cpu: Cpu, memory: Memory, disk: Option<Memory>| {
        let always = [("cpu", cpu.to_string()), ("memory", memory.to_string())];
        let disk = disk.map(|disk| ("ephemeral-storage", disk.to_string()));
        let all = always.into_iter().chain(disk);
        Some(
            all.map(|(name, quantity)| (name.to_owned(), Quantity(quantity)))
                .collect(),
        )
    };
    ResourceRequirements {
        requests: quantities(resources.cpu_request, resources.memory_request, resources.disk_request),
        limits: quantities(resources.cpu_limit, resources.memory_limit, resources.disk_limit),
        ..Default::default()
    }
}

/// The pod's volumes and their mounts.
fn volumes(spec: &ClusterSpec, plan: &PodPlan<'_>) -> (Vec<Volume>, Vec<VolumeMount>) {
    let component = plan.component;
    let conf = VolumeSource::ConfigMap { name: spec.name.conf() };
    let tmp = VolumeSource::empty_dir(TMP_LIMIT);
    let mut all = vec![
        (volume("conf", &conf), mount("conf", CONF_DIR, true)),
        (volume("tmp", &tmp), mount("tmp", "/tmp", false)),
    ];
    if component == Component::Worker {
        let work = VolumeSource::empty_dir(WORK_LIMIT);
        all.push((
            volume("work", &work),
            mount("work", &format!("{STATE_DIR}/work"), false),
        ));
    }
    // The history server only reads files, and ZooKeeper does not use Spark's secret.
    let connects = !matches!(component, Component::History | Component::ZooKeeper);
    let logs_in = matches!(component, Component::Master | Component::ZooKeeper);
    let secrets = [
        (
            AUTH_VOLUME,
            AUTH_DIR,
            spark_secret(spec, component).filter(|_| connects),
        ),
        (TLS_VOLUME, TLS_DIR, certificate(spec).filter(|_| connects)),
        (
            ZOOKEEPER_AUTH_VOLUME,
            ZOOKEEPER_AUTH_DIR,
            zookeeper_secret(spec).filter(|_| logs_in),
        ),
        (S3_VOLUME, S3_DIR, s3_secret(spec, component)),
    ];
    for (name, folder, secret) in secrets.into_iter().filter(|(.., secret)| secret.is_some()) {
        let volume = Volume {
            name: name.into(),
            secret,
            ..Default::default()
        };
        all.push((Some(volume), mount(name, folder, true)));
    }
    for state in drivers_events(spec, component).iter().chain(&plan.state) {
        let mount = mount(state.name, &state.mount_path, false);
        all.push((volume(state.name, &state.source), mount));
    }
    for user in &plan.settings.volumes {
        let mount = VolumeMount {
            sub_path: user.sub_path.clone(),
            ..mount(&user.name, &user.mount_path, user.read_only)
        };
        all.push((volume(&user.name, &user.source), mount));
    }
    let (volumes, mounts): (Vec<_>, _) = all.into_iter().unzip();
    (volumes.into_iter().flatten().collect(), mounts)
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..Default::default()
    }
}

/// The volume with event logs, as the history server has it: a new claim comes from its StatefulSet's template.
pub fn event_logs(spec: &ClusterSpec) -> Option<StateVolume> {
    let EventLogs::Volume(source) = &spec.history.as_ref()?.event_logs else {
        return None;
    };
    Some(StateVolume {
        name: EVENTS,
        mount_path: EVENTS_DIR.into(),
        source: source.clone(),
    })
}

/// The same volume for drivers, for which the claim of the history server's StatefulSet is an existing claim.
fn drivers_events(spec: &ClusterSpec, component: Component) -> Option<StateVolume> {
    let is_driver = matches!(component, Component::Driver | Component::Connect);
    let mut events = event_logs(spec).filter(|_| is_driver)?;
    if let VolumeSource::NewClaim(_) = events.source {
        let name = format!("{EVENTS}-{}-0", spec.name.history());
        events.source = VolumeSource::ExistingClaim { name };
    }
    Some(events)
}

/// `None` for a new claim: the StatefulSet adds its volume from the template.
fn volume(name: &str, source: &VolumeSource) -> Option<Volume> {
    let mut volume = Volume {
        name: name.to_owned(),
        ..Default::default()
    };
    match source.clone() {
        VolumeSource::NewClaim(_) => return None,
        VolumeSource::HostPath { path, kind } => {
            volume.host_path = Some(HostPathVolumeSource { path, type_: kind });
        }
        VolumeSource::ExistingClaim { name } => {
            volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: name,
                ..Default::default()
            });
        }
        VolumeSource::EmptyDir { size_limit, in_memory } => {
            volume.empty_dir = Some(EmptyDirVolumeSource {
                medium: in_memory.then(|| "Memory".into()),
                size_limit: size_limit.map(|limit| Quantity(limit.to_string())),
                ..Default::default()
            });
        }
        VolumeSource::ConfigMap { name } => {
            volume.config_map = Some(ConfigMapVolumeSource {
                name,
                ..Default::default()
            });
        }
        VolumeSource::Secret { name } => {
            volume.secret = Some(SecretVolumeSource {
                secret_name: Some(name),
                ..Default::default()
            });
        }
        VolumeSource::Nfs { server, path } => {
            volume.nfs = Some(NFSVolumeSource {
                server,
                path,
                read_only: None,
            });
        }
    }
    Some(volume)
}

/// A long timeout: with few or busy processors a JVM's start takes more than a minute, and a restart would only start it again.
fn startup(liveness: Probe) -> Probe {
    Probe {
        period_seconds: Some(1),
        failure_threshold: Some(300),
        ..liveness
    }
}

/// Volume claim templates for all new claims of the plan and the user.
pub fn claim_templates(spec: &ClusterSpec, plan: &PodPlan<'_>) -> Vec<PersistentVolumeClaim> {
    let state = plan.state.iter().map(|state| (state.name, &state.source));
    let users = plan.settings.volumes.iter().map(|v| (v.name.as_str(), &v.source));
    state
        .chain(users)
        .filter_map(|(name, source)| match source {
            VolumeSource::NewClaim(claim) => Some(claim_template(spec, plan.component, name, claim)),
            _ => None,
        })
        .collect()
}

fn claim_template(spec: &ClusterSpec, component: Component, name: &str, claim: &NewClaim) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(identity(spec, component)),
            ..Default::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![claim.access_mode.clone()]),
            storage_class_name: claim.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(claim.size.to_string()))].into()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::render::driver;
    use crate::render::render;
    use crate::spec::resolve::{RESERVED_VOLUMES, Source, resolve};

    /// Volumes and mounts of the event logs in a component's pods.
    fn events(text: &str, set: &str) -> serde_json::Value {
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let sets = render(&spec)
            .objects
            .into_iter()
            .filter(|resource| resource.name == set);
        let set = sets
            .map(|set| set.object)
            .find(|object| object["kind"] == "StatefulSet")
            .unwrap();
        let pod = &set["spec"]["template"]["spec"];
        let named = |list: &serde_json::Value| {
            let list = list.as_array().unwrap();
            list.iter()
                .find(|item| item["name"] == EVENTS)
                .cloned()
                .unwrap_or_default()
        };
        serde_json::json!([
            named(&pod["volumes"]),
            named(&pod["containers"][0]["volumeMounts"])["mountPath"]
        ])
    }

    /// The pod template of a component.
    fn pod_of(text: &str, set: &str) -> serde_json::Value {
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let sets = render(&spec)
            .objects
            .into_iter()
            .filter(|resource| resource.name == set);
        let mut sets = sets
            .map(|set| set.object)
            .filter(|object| object["kind"] == "StatefulSet");
        sets.next().unwrap()["spec"]["template"]["spec"].take()
    }

    #[test]
    fn cluster_files_cannot_use_the_names_and_folders_of_rendered_pods() {
        let text =
            "history: true\nconnect: true\nmetrics: true\ns3: {secret: {name: keys}}\ntls: {secret: certificates}\n";
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let template = serde_json::from_str(&driver::template(&spec)).unwrap();
        let driver = driver::pod(template, &driver::tests::driver());
        let sets = render(&spec).objects.into_iter().map(|resource| resource.object);
        let sets = sets.filter(|object| object["kind"] == "StatefulSet");
        let pods: Vec<_> = sets
            .map(|mut set| set["spec"]["template"]["spec"].take())
            .chain([serde_json::to_value(driver.spec).unwrap()])
            .collect();
        assert_eq!(pods.len(), 6);
        let all = |list: &str, key: &str| -> BTreeSet<String> {
            let items = pods
                .iter()
                .flat_map(|pod| [&pod[list], &pod["containers"][0][list]])
                .filter_map(|items| items.as_array());
            items
                .flatten()
                .map(|item| item[key].as_str().unwrap().to_owned())
                .collect()
        };
        let is_refused = |text: String| resolve(Some(Source { name: "f", text: &text }), &Default::default()).is_err();
        let volume = |name: &str, path: &str| {
            format!("workers: {{volumes: [{{name: {name}, mountPath: {path}, emptyDir: {{}}}}]}}")
        };
        let replaceable = all("env", "name")
            .into_iter()
            .filter(|name| !is_refused(format!("env: {{{name}: x}}")));
        assert_eq!(replaceable.collect::<Vec<_>>(), ["AWS_SHARED_CREDENTIALS_FILE", "HOME"]);
        assert_eq!(all("volumes", "name"), RESERVED_VOLUMES.map(str::to_owned).into());
        for name in all("volumes", "name") {
            assert!(is_refused(volume(&name, "/mine")), "{name}");
        }
        for path in all("volumeMounts", "mountPath") {
            let parent = path.rsplit_once('/').unwrap().0;
            for path in [&path, &format!("{path}/x"), &format!("/.{path}/"), parent]
                .into_iter()
                .filter(|path| !path.is_empty())
            {
                assert!(is_refused(volume("mine", path)), "{path}");
            }
        }
        assert!(!is_refused(volume("mine", "/mine")));
    }

    #[test]
    fn labels_of_a_component_override_those_of_the_cluster() {
        let text = "labels: {team: a, stage: test}\nworkers: {labels: {team: b}}\n";
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let objects = render(&spec).objects;
        let set = objects
            .iter()
            .find(|resource| resource.name == "spark-worker" && resource.object["kind"] == "StatefulSet");
        let labels = &set.unwrap().object["spec"]["template"]["metadata"]["labels"];
        assert_eq!((&labels["team"], &labels["stage"]), (&"b".into(), &"test".into()));
        assert_eq!(labels["app.kubernetes.io/component"], "worker");
    }

    #[test]
    fn a_home_of_the_cluster_file_replaces_the_usual_one() {
        for set in ["spark-worker", "spark-connect"] {
            let pod = pod_of("connect: true\nenv: {HOME: /data/home}\n", set);
            let env = pod["containers"][0]["env"].as_array().unwrap();
            let homes: Vec<_> = env.iter().filter(|variable| variable["name"] == "HOME").collect();
            assert_eq!(
                homes,
                [&serde_json::json!({"name": "HOME", "value": "/data/home"})],
                "{set}"
            );
        }
    }

    #[test]
    fn anti_affinity_is_preferred_or_required_as_configured() {
        let anti_affinity = |text: &str, set: &str| pod_of(text, set)["affinity"]["podAntiAffinity"].take();
        let preferred = anti_affinity("", "spark-master");
        assert_eq!(
            preferred["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]["topologyKey"],
            "kubernetes.io/hostname"
        );
        let strict = "zookeeper: {podAntiAffinity: required}\n";
        let required = anti_affinity(strict, "spark-zookeeper");
        assert_eq!(
            required["preferredDuringSchedulingIgnoredDuringExecution"],
            serde_json::Value::Null
        );
        let term = &required["requiredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
        // The other components have no setting.
        assert_eq!(anti_affinity(strict, "spark-master"), preferred);
        let zones = "masters:\n  topologySpreadConstraints:\n  - {topologyKey: zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}\n";
        let constraint = pod_of(zones, "spark-master")["topologySpreadConstraints"][0].take();
        assert_eq!(
            constraint["labelSelector"]["matchLabels"]["app.kubernetes.io/component"],
            "master"
        );
        assert_eq!(constraint["topologyKey"], "zone");
        let both = "masters: {podAntiAffinity: required, affinity: {}}\n";
        let refused = resolve(Some(Source { name: "f", text: both }), &Default::default()).unwrap_err();
        assert!(refused.to_string().contains("masters.podAntiAffinity"), "{refused}");
    }

    #[test]
    fn stateful_members_tolerate_an_unreachable_node() {
        let forever = serde_json::json!([
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
        ]);
        for set in ["spark-master", "spark-zookeeper", "spark-worker"] {
            assert_eq!(pod_of("", set)["tolerations"], forever);
        }
        // They have no state to lose.
        assert_eq!(
            pod_of("connect: true\n", "spark-connect")["tolerations"],
            serde_json::Value::Null
        );
        // Evictions have the effect NoExecute.
        for other in [
            "{operator: Exists, effect: NoSchedule}",
            "{key: spark, operator: Exists}",
        ] {
            let tolerations =
                pod_of(&format!("masters: {{tolerations: [{other}]}}"), "spark-master")["tolerations"].take();
            assert_eq!(tolerations[1], forever[0], "{other}");
        }
        let all = pod_of("masters: {tolerations: [{operator: Exists}]}", "spark-master")["tolerations"].take();
        assert_eq!(all, serde_json::json!([{"operator": "Exists"}]));
        let own = "masters: {tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, tolerationSeconds: 60, effect: NoExecute}]}\n";
        let said = pod_of(own, "spark-master")["tolerations"].take();
        assert_eq!(
            (said.as_array().unwrap().len(), &said[0]["tolerationSeconds"]),
            (1, &60.into())
        );
    }

    #[test]
    fn drivers_mount_the_event_logs_of_the_history_server() {
        let both = "connect: true\nhistory: true\n";
        let claim =
            serde_json::json!({"name": EVENTS, "persistentVolumeClaim": {"claimName": "events-spark-history-0"}});
        assert_eq!(events(both, "spark-connect"), serde_json::json!([claim, EVENTS_DIR]));
        // From the template of its own.
        assert_eq!(events(both, "spark-history"), serde_json::json!([null, EVENTS_DIR]));
        let nfs = "connect: true\nhistory: {eventLogs: {nfs: {server: s, path: /e}}}\n";
        assert_eq!(events(nfs, "spark-connect"), events(nfs, "spark-history"));
        assert_eq!(events(nfs, "spark-worker"), serde_json::json!([null, null]));
    }
}
