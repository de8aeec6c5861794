//! Checks capacity: quotas, limit ranges, free capacity of nodes, storage classes. Objects that the user may not read
//! are left to the API server and the scheduler.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{LimitRange, Node, PersistentVolumeClaim, Pod, ResourceQuota};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::Api;

use crate::model::finding::{Finding, Severity};
use crate::model::labels::is_of_cluster;
use crate::platform::kubernetes::namespace::NamespaceState;
use crate::platform::kubernetes::{self, Cluster};
use crate::render::inventory::is_claim_of;
use crate::spec::words::{counted, listed};
use crate::spec::{ClusterSpec, EventLogs, NewClaim, Recovery, VolumeSource};
use crate::state::capacity;

/// Provisioners whose volumes are disks, which one node can mount at a time.
const DISKS: [&str; 15] = [
    "kubernetes.io/aws-ebs",
    "kubernetes.io/gce-pd",
    "kubernetes.io/azure-disk",
    "kubernetes.io/cinder",
    "kubernetes.io/vsphere-volume",
    "kubernetes.io/rbd",
    "ebs.csi.aws.com",
    "pd.csi.storage.gke.io",
    "disk.csi.azure.com",
    "cinder.csi.openstack.org",
    "csi.vsphere.vmware.com",
    "rbd.csi.ceph.com",
    "dobs.csi.digitalocean.com",
    "rancher.io/local-path",
    "driver.longhorn.io.block",
];

/// The section of the cluster file whose claim many pods share.
const EVENT_LOGS: &str = "history.eventLogs";

pub async fn quota(
    cluster: &Cluster,
    sets: &[StatefulSet],
    live_sets: &[StatefulSet],
    namespace: NamespaceState,
) -> Vec<Finding> {
    if namespace == NamespaceState::Missing {
        return vec![];
    }
    let (quotas, ranges) = futures::join!(cluster.list_of::<ResourceQuota>(""), cluster.list_of::<LimitRange>(""),);
    let mut more = capacity::amounts(sets);
    for (name, has) in capacity::amounts(live_sets) {
        *more.entry(name).or_default() -= has;
    }
    // Missing permission to read them is reported by the permissions check.
    let no_ranges = vec![];
    let known_ranges = ranges.as_ref().unwrap_or(&no_ranges);
    let mut findings = Vec::new();
    for quota in quotas.iter().flatten() {
        let hint = "lower the cluster's resources, or ask for a larger quota";
        let over = capacity::over_quota(quota, &more, known_ranges).into_iter();
        let message = |what| format!("ResourceQuota {} forbids it: {what}", quota.name_any());
        findings.extend(over.map(|what| Finding::new(Severity::Failure, message(what), hint)));
    }
    for range in ranges.iter().flatten() {
        let hint = "change the resources in the cluster file";
        let out = capacity::out_of_range(range, sets).into_iter();
        let message = |what| format!("LimitRange {} forbids it: {what}", range.name_any());
        findings.extend(out.map(|what| Finding::new(Severity::Failure, message(what), hint)));
    }
    findings
}

pub async fn nodes(cluster: &Cluster, spec: &ClusterSpec, sets: &[StatefulSet]) -> Vec<Finding> {
    match nodes_and_pods(cluster).await {
        Ok((nodes, pods)) => unschedulable_pods(cluster, spec.name.as_str(), sets, &nodes, pods),
        Err(_) => {
            // Most users may not list them; the scheduler decides.
            tracing::info!(
                "the capacity of the nodes was not checked: you may not list nodes and pods of all namespaces"
            );
            vec![]
        }
    }
}

/// All nodes and the pods of all namespaces.
pub async fn nodes_and_pods(cluster: &Cluster) -> Result<(Vec<Node>, Vec<Pod>), kubernetes::Error> {
    let nodes: Api<Node> = Api::all(cluster.client());
    let pods: Api<Pod> = Api::all(cluster.client());
    futures::try_join!(cluster.list_in(&nodes, ""), cluster.list_in(&pods, ""))
}

/// Reports the pods of these StatefulSets that fit on no node beside the pods of others.
pub fn unschedulable_pods(
    cluster: &Cluster,
    name: &str,
    sets: &[StatefulSet],
    nodes: &[Node],
    pods: Vec<Pod>,
) -> Vec<Finding> {
    let own = |pod: &Pod| {
        pod.namespace().as_deref() == Some(cluster.namespace().as_str())
            && is_of_cluster(pod.metadata.labels.as_ref(), name)
    };
    let others: Vec<_> = pods.into_iter().filter(|pod| !own(pod)).collect();
    let required = capacity::pods(sets);
    let unschedulable = capacity::without_a_node(&required, nodes, &others);
    if unschedulable.is_empty() {
        return vec![];
    }
    let names: Vec<_> = unschedulable.iter().map(|pod| pod.name.as_str()).collect();
    vec![Finding::new(
        Severity::Failure,
        format!(
            "the nodes have no capacity for {} of {} ({}); {} are free on {}",
            unschedulable.len(),
            counted(required.len(), "pod"),
            listed(&names),
            capacity::free_in_all(nodes, &others),
            counted(nodes.len(), "node")
        ),
        match unschedulable.iter().any(|pod| pod.apart.is_some()) {
            true => "each pod with `podAntiAffinity: required` needs its own node: add nodes, or use `preferred`",
            false => "request less (workers, resources.requests), or add nodes",
        },
    )]
}

pub async fn storage(cluster: &Cluster, spec: &ClusterSpec) -> Vec<Finding> {
    let claims = new_claims(spec);
    if claims.is_empty() {
        return vec![];
    }
    match storage_classes(cluster).await {
        Ok(classes) => wrong_claims(&claims, &classes),
        Err(error) => {
            tracing::info!("storage classes were not checked: {error}");
            vec![]
        }
    }
}

pub async fn storage_classes(cluster: &Cluster) -> Result<Vec<StorageClass>, kubernetes::Error> {
    let api: Api<StorageClass> = Api::all(cluster.client());
    cluster.list_in(&api, "").await
}

/// Checks existing claims that the pods of these StatefulSets share.
pub async fn shared_claims(cluster: &Cluster, sets: &[StatefulSet], namespace: NamespaceState) -> Vec<Finding> {
    let is_any_shared = sets.iter().any(|set| shared(set).next().is_some());
    if !is_any_shared {
        return vec![];
    }
    let claims = match namespace {
        NamespaceState::Missing => Ok(vec![]),
        _ => cluster.list_of::<PersistentVolumeClaim>("").await,
    };
    match claims {
        Ok(claims) => unshareable(sets, &claims),
        Err(error) => {
            tracing::info!("existing claims were not checked: {error}");
            vec![]
        }
    }
}

/// The claims that all pods of a set mount: name of the volume, name of the claim.
fn shared(set: &StatefulSet) -> impl Iterator<Item = (&str, &str)> {
    let pod = set.spec.template.spec.as_ref();
    let volumes = pod.and_then(|pod| pod.volumes.as_ref()).into_iter().flatten();
    volumes.filter_map(|volume| {
        let claim = volume.persistent_volume_claim.as_ref()?;
        Some((volume.name.as_str(), claim.claim_name.as_str()))
    })
}

/// The same check for listed claims.
pub fn unshareable(sets: &[StatefulSet], claims: &[PersistentVolumeClaim]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for set in sets {
        let pods = set.spec.replicas.unwrap_or(1);
        for (volume, name) in shared(set) {
            // A claim of another StatefulSet is created with the cluster.
            let is_made = sets.iter().any(|set| {
                let templates = set.spec.volume_claim_templates.iter().flatten();
                templates
                    .map(ResourceExt::name_any)
                    .any(|template| is_claim_of(name, &template, &set.name_any()))
            });
            let Some(claim) = claims.iter().find(|claim| claim.name_any() == name) else {
                if !is_made {
                    findings.push(Finding::new(
                        Severity::Failure,
                        format!(
                            "{}: volume {volume} is a claim {name}, which does not exist",
                            set.name_any()
                        ),
                        "create the claim first, or use newClaim",
                    ));
                }
                continue;
            };
            let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
            let is_for_many = modes.is_some_and(|modes| modes.iter().any(|mode| mode.ends_with("Many")));
            if pods > 1 && !is_for_many {
                findings.push(Finding::new(
                    Severity::Warning,
                    format!(
                        "{}: volume {volume} is a claim {name} that one node can mount at a time ({}), and {pods} pods mount it",
                        set.name_any(),
                        modes.map(|modes| modes.join(", ")).unwrap_or_default()
                    ),
                    "use a ReadWriteMany claim, newClaim for one claim per pod, or a nodeSelector that matches one node",
                ));
            }
        }
    }
    findings
}

/// A claim with the properties that matter to storage classes.
pub struct ClaimRequest {
    /// The section of the cluster file or the existing claim.
    pub subject: String,
    /// The default class if `None`.
    pub class: Option<String>,
    pub access_modes: Vec<String>,
}

/// Reports claims that no storage class can provision.
pub fn wrong_claims(claims: &[ClaimRequest], classes: &[StorageClass]) -> Vec<Finding> {
    let is_default = |class: &&StorageClass| {
        class
            .annotations()
            .get("storageclass.kubernetes.io/is-default-class")
            .map(String::as_str)
            == Some("true")
    };
    let mut findings = Vec::new();
    for ClaimRequest {
        subject,
        class: requested,
        access_modes,
    } in claims
    {
        let class = match requested {
            Some(name) => classes.iter().find(|class| class.name_any() == *name),
            None => classes.iter().find(is_default),
        };
        let known: Vec<_> = classes.iter().map(ResourceExt::name_any).collect();
        match class {
            None => findings.push(Finding::new(
                Severity::Failure,
                match requested {
                    Some(name) => format!("{subject}: there is no storage class {name}"),
                    None => format!("{subject}: there is no default storage class"),
                },
                if known.is_empty() {
                    "this cluster has none; use an emptyDir or a claim that exists".to_owned()
                } else {
                    format!("set storageClassName to one of {}", known.join(", "))
                },
            )),
            Some(class)
                if access_modes.iter().any(|mode| mode == "ReadWriteMany")
                    && DISKS.contains(&class.provisioner.as_str()) =>
            {
                findings.push(Finding::new(
                    Severity::Failure,
                    format!(
                        "{subject}: storage class {} ({}) provisions disks, and a disk cannot be ReadWriteMany",
                        class.name_any(),
                        class.provisioner
                    ),
                    match subject.starts_with(EVENT_LOGS) {
                        true => {
                            "use a class of a shared file system or an s3a:// URL; if all drivers run on one node, ReadWriteOnce is enough"
                        }
                        false => "use ReadWriteOnce (each pod gets its own claim), or a class of a shared file system",
                    },
                ));
            }
            Some(_) => {}
        }
    }
    findings
}

/// All new claims of the cluster, with their section of the cluster file.
pub fn new_claims(spec: &ClusterSpec) -> Vec<ClaimRequest> {
    let mut claims: Vec<(String, NewClaim)> = Vec::new();
    let mut settings = vec![("masters", &spec.masters.pod), ("workers", &spec.workers.pod)];
    match &spec.recovery {
        Recovery::FileSystem { storage } => {
            claims.extend(storage.clone().map(|claim| ("masters.storage".to_owned(), claim)));
        }
        Recovery::ManagedZooKeeper(zookeeper) => {
            claims.extend(
                zookeeper
                    .storage
                    .clone()
                    .map(|claim| ("zookeeper.storage".to_owned(), claim)),
            );
            settings.push(("zookeeper", &zookeeper.pod));
        }
        Recovery::ExternalZooKeeper(_) => {}
    }
    if let VolumeSource::NewClaim(claim) = &spec.workers.shuffle {
        claims.push(("workers.shuffle".to_owned(), claim.clone()));
    }
    if let Some(history) = &spec.history {
        if let EventLogs::Volume(VolumeSource::NewClaim(claim)) = &history.event_logs {
            claims.push((EVENT_LOGS.to_owned(), claim.clone()));
        }
        settings.push(("history", &history.pod));
    }
    if let Some(connect) = &spec.connect {
        settings.push(("connect", &connect.pod));
    }
    for (part, pod) in settings {
        for volume in &pod.volumes {
            if let VolumeSource::NewClaim(claim) = &volume.source {
                claims.push((format!("{part}.volumes {}", volume.name), claim.clone()));
            }
        }
    }
    let claim_request = |(subject, claim): (String, NewClaim)| ClaimRequest {
        subject,
        class: claim.storage_class,
        access_modes: vec![claim.access_mode],
    };
    claims.into_iter().map(claim_request).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::kind::Kind;
    use crate::render::render;
    use crate::spec::resolve::{Source, resolve};

    /// The findings for a cluster file, with an existing claim `shared` that has this access mode.
    fn findings(text: &str, mode: &str) -> Vec<String> {
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let sets = render(&spec)
            .objects
            .into_iter()
            .filter(|resource| resource.kind == Kind::StatefulSet);
        let sets: Vec<_> = sets.map(|set| serde_json::from_value(set.object).unwrap()).collect();
        let claim = json!({"metadata": {"name": "shared"}, "spec": {"accessModes": [mode]}});
        let findings = unshareable(&sets, &[serde_json::from_value(claim).unwrap()]);
        findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn missing_and_unshareable_claims_are_reported() {
        let workers = |count: u32, claim: &str| {
            format!(
                "workers: {{count: {count}, volumes: [{{name: d, mountPath: /d, persistentVolumeClaim: {{claimName: {claim}}}}}]}}\n"
            )
        };
        assert_eq!(findings(&workers(2, "shared"), "ReadWriteMany"), [""; 0]);
        assert_eq!(findings(&workers(1, "shared"), "ReadWriteOnce"), [""; 0]);
        assert_eq!(
            findings(&workers(2, "shared"), "ReadWriteOnce"),
            [
                "spark-worker: volume d is a claim shared that one node can mount at a time (ReadWriteOnce), and 2 pods mount it"
            ]
        );
        assert_eq!(
            findings(&workers(1, "other"), "ReadWriteMany"),
            ["spark-worker: volume d is a claim other, which does not exist"]
        );
        // The history server's own claim, which the Connect server also mounts.
        let own = "connect: true\nworkers: {cores: 2, memory: 4Gi}\nhistory: {eventLogs: {newClaim: {size: 1Gi}}}\n";
        assert_eq!(findings(own, "ReadWriteMany"), [""; 0]);
    }
}
