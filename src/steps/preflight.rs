//! What can be known before anything is changed: whether the server answers, serves and allows what will be done, whether there is
//! room, and whether names are free. Everything found is told at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec,
};
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Namespace, Node, Pod, ResourceQuota};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use kube::core::{DynamicObject, ObjectMeta};

use super::plan::Live;
use super::{Error, demand, is_ours};
use crate::platform::kubernetes::{self, Cluster};
use crate::render::inventory::Inventory;
use crate::render::kind::Kind;
use crate::render::labels::{INSTANCE, cluster_selector};
use crate::render::role::permissions;
use crate::render::{Resource, render};
use crate::spec::{ClusterSpec, NewClaim, Recovery, VolumeSource};
use crate::zookeeper;

/// The oldest server that sparkha supports, as (major, minor).
const OLDEST: (u32, u32) = (1, 20);
/// How long an external ZooKeeper may take to answer.
const ZOOKEEPER_TIMEOUT: Duration = Duration::from_secs(10);

/// Provisioners whose volumes are disks: one node at a time.
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

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub message: String,
    pub help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; create goes on.
    Warning,
    /// There is no room, or what is needed is not there.
    Failure,
    /// The API server does not allow it.
    NotAllowed,
    /// A name is taken by something that is not ours.
    Clash,
}

impl Finding {
    fn new(severity: Severity, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            severity,
            message: message.into(),
            help: help.into(),
        }
    }
}

/// How things are before create changes anything.
pub struct Situation {
    /// What will be applied: only kinds that the server serves.
    pub resources: Vec<Resource>,
    pub live: Live,
    pub inventory: Option<Inventory>,
    pub namespace: NamespaceState,
    pub findings: Vec<Finding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceState {
    Missing,
    /// Made by sparkha.
    Ours,
    Others,
}

impl Situation {
    /// Whether there is no cluster of this name yet.
    pub fn is_first(&self) -> bool {
        self.inventory.is_none()
    }
}

/// Looks at everything, as concurrently as it can.
pub async fn preflight(cluster: &Cluster, spec: &ClusterSpec, skip: bool) -> Result<Situation, Error> {
    let (version, serves_budgets, namespace) =
        futures::try_join!(version(cluster), serves_budgets(cluster), namespace_state(cluster),)?;
    let mut findings = version;
    let mut resources = render(spec);
    if !serves_budgets {
        resources = without(spec, resources, Kind::PodDisruptionBudget);
        findings.push(Finding::new(
            Severity::Warning,
            "this server does not serve PodDisruptionBudget (policy/v1); the cluster goes without",
            "Kubernetes 1.21 and later do",
        ));
    }
    let (live, missing_permissions) = futures::try_join!(
        live(cluster, spec, &resources, namespace),
        missing_permissions(cluster, namespace),
    )?;
    findings.extend(missing_permissions);
    let inventory = match live.get(&(Kind::ConfigMap, spec.name.inventory())) {
        Some(object) => Some(read_inventory(object)?),
        None => None,
    };
    let sets: Vec<StatefulSet> = typed(
        resources
            .iter()
            .filter(|r| r.kind == Kind::StatefulSet)
            .map(|r| &r.object),
    );
    let live_values: Vec<_> = live
        .iter()
        .filter(|((kind, _), _)| *kind == Kind::StatefulSet)
        .filter_map(|(_, object)| serde_json::to_value(object).ok())
        .collect();
    let live_sets: Vec<StatefulSet> = typed(live_values.iter());
    if !skip {
        let (clashes, quota, room, storage, zookeeper) = futures::join!(
            clashes(cluster, &resources, &live, namespace),
            quota(cluster, &sets, &live_sets, namespace),
            room(cluster, spec, &sets),
            storage(cluster, spec),
            external_zookeeper(cluster, spec),
        );
        for found in [clashes?, quota, room, storage, zookeeper] {
            findings.extend(found);
        }
    }
    if skip {
        for finding in &mut findings {
            finding.severity = Severity::Warning;
        }
    }
    if findings.iter().any(|finding| finding.severity > Severity::Warning) {
        return Err(Error::Preflight { findings });
    }
    Ok(Situation {
        resources,
        live,
        inventory,
        namespace,
        findings,
    })
}

/// The resources without a kind; the inventory lists only what is there.
fn without(spec: &ClusterSpec, resources: Vec<Resource>, kind: Kind) -> Vec<Resource> {
    let others: Vec<_> = resources
        .into_iter()
        .skip(1)
        .filter(|resource| resource.kind != kind)
        .collect();
    crate::render::with_inventory(spec, others)
}

async fn version(cluster: &Cluster) -> Result<Vec<Finding>, Error> {
    let client = cluster.client();
    let info = cluster
        .call("ask for the API server's version", || client.apiserver_version())
        .await?;
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    };
    let version = (number(&info.major), number(&info.minor));
    Ok((version != (0, 0) && version < OLDEST)
        .then(|| {
            Finding::new(
                Severity::Warning,
                format!(
                    "the API server is {}; 1.20 is the oldest that sparkha is tested with",
                    info.git_version
                ),
                "upgrade it if something does not work",
            )
        })
        .into_iter()
        .collect())
}

async fn serves_budgets(cluster: &Cluster) -> Result<bool, Error> {
    let client = cluster.client();
    let served = cluster
        .call("ask for the kinds of policy/v1", || {
            client.list_api_group_resources("policy/v1")
        })
        .await;
    match served {
        Ok(list) => Ok(list
            .resources
            .iter()
            .any(|resource| resource.name == Kind::PodDisruptionBudget.plural())),
        Err(kubernetes::Error::Rejected { code: 404, .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn namespace_state(cluster: &Cluster) -> Result<NamespaceState, Error> {
    let api: Api<Namespace> = Api::all(cluster.client());
    let name = cluster.namespace().as_str();
    let found = cluster
        .call(&format!("read Namespace {name}"), || api.get_opt(name))
        .await;
    match found {
        Ok(None) => Ok(NamespaceState::Missing),
        Ok(Some(namespace)) if is_ours(namespace.metadata.labels.as_ref()) => Ok(NamespaceState::Ours),
        // Who may not look at namespaces was given one.
        Ok(Some(_)) | Err(kubernetes::Error::Forbidden { .. }) => Ok(NamespaceState::Others),
        Err(error) => Err(error.into()),
    }
}

/// What of ours is there already.
async fn live(
    cluster: &Cluster,
    spec: &ClusterSpec,
    resources: &[Resource],
    namespace: NamespaceState,
) -> Result<Live, Error> {
    if namespace == NamespaceState::Missing {
        return Ok(Live::new());
    }
    let selector = cluster_selector(&spec.name);
    let kinds: BTreeSet<Kind> = resources.iter().map(|resource| resource.kind).collect();
    let lists = kinds.into_iter().map(|kind| {
        let selector = &selector;
        async move {
            match cluster.list(kind, selector).await {
                Ok(objects) => Ok((kind, objects)),
                // Told with all other missing permissions.
                Err(kubernetes::Error::Forbidden { .. }) => Ok((kind, vec![])),
                Err(error) => Err(error),
            }
        }
    });
    let lists = futures::future::try_join_all(lists).await?;
    Ok(lists
        .into_iter()
        .flat_map(|(kind, objects)| {
            objects
                .into_iter()
                .map(move |object| ((kind, object.name_any()), object))
        })
        .collect())
}

/// Reads the inventory out of its ConfigMap.
pub fn read_inventory(object: &DynamicObject) -> Result<Inventory, Error> {
    let value = serde_json::to_value(object).unwrap_or_default();
    let config_map: ConfigMap = serde_json::from_value(value).unwrap_or_default();
    Ok(Inventory::read(&config_map)?)
}

fn typed<'a, T: serde::de::DeserializeOwned>(values: impl Iterator<Item = &'a serde_json::Value>) -> Vec<T> {
    values
        .filter_map(|value| serde_json::from_value(value.clone()).ok())
        .collect()
}

/// One question for all rules; what they do not clearly allow is asked one by one, for rules may be incomplete.
async fn missing_permissions(cluster: &Cluster, namespace: NamespaceState) -> Result<Vec<Finding>, Error> {
    let rules = rules(cluster).await?;
    let mut wanted: Vec<_> = permissions()
        .into_iter()
        .flat_map(|permission| permission.verbs.iter().map(move |&verb| (permission.clone(), verb)))
        .filter(|(permission, verb)| {
            !rules
                .iter()
                .any(|rule| allows(rule, permission.group, permission.resource, verb))
        })
        .collect();
    if namespace == NamespaceState::Missing {
        let create = crate::render::role::Permission {
            group: "",
            resource: "namespaces",
            verbs: &["create"],
            purpose: "make the namespace",
            optional: false,
        };
        wanted.push((create, "create"));
    }
    let asked = wanted.into_iter().map(|(permission, verb)| async move {
        let allowed = may(cluster, permission.group, permission.resource, verb).await?;
        Ok::<_, Error>((!allowed).then_some((permission, verb)))
    });
    let denied = futures::future::try_join_all(asked).await?.into_iter().flatten();
    // One line for each resource.
    let mut by_resource: BTreeMap<&str, (crate::render::role::Permission, Vec<&str>)> = BTreeMap::new();
    for (permission, verb) in denied {
        let entry = by_resource.entry(permission.resource).or_insert((permission, vec![]));
        entry.1.push(verb);
    }
    Ok(by_resource
        .into_values()
        .map(|(permission, verbs)| {
            let severity = if permission.optional {
                Severity::Warning
            } else {
                Severity::NotAllowed
            };
            Finding::new(
                severity,
                format!(
                    "you may not {} {} in namespace {}; it is needed to {}",
                    verbs.join(", "),
                    permission.resource,
                    cluster.namespace(),
                    permission.purpose
                ),
                "ask for the Role that `sparkha render --role` prints",
            )
        })
        .collect())
}

async fn rules(cluster: &Cluster) -> Result<Vec<ResourceRule>, Error> {
    let api: Api<SelfSubjectRulesReview> = Api::all(cluster.client());
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(cluster.namespace().to_string()),
        },
        ..Default::default()
    };
    let params = PostParams::default();
    let answer = cluster
        .call("ask what you may do", || api.create(&params, &review))
        .await;
    match answer {
        Ok(review) => Ok(review.status.map(|status| status.resource_rules).unwrap_or_default()),
        Err(kubernetes::Error::Forbidden { .. }) => Ok(vec![]),
        Err(error) => Err(error.into()),
    }
}

async fn may(cluster: &Cluster, group: &str, resource: &str, verb: &str) -> Result<bool, Error> {
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client());
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: (resource != "namespaces").then(|| cluster.namespace().to_string()),
                group: Some(group.into()),
                resource: Some(resource.into()),
                subresource,
                verb: Some(verb.into()),
                ..Default::default()
            }),
            ..Default::default()
        },
        ..Default::default()
    };
    let params = PostParams::default();
    let answer = cluster
        .call(&format!("ask whether you may {verb} {resource}"), || {
            api.create(&params, &review)
        })
        .await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn allows(rule: &ResourceRule, group: &str, resource: &str, verb: &str) -> bool {
    let has =
        |list: &Option<Vec<String>>, wanted: &str| list.iter().flatten().any(|item| item == "*" || item == wanted);
    let any_of_sub = resource
        .split_once('/')
        .is_some_and(|(_, sub)| rule.resources.iter().flatten().any(|item| *item == format!("*/{sub}")));
    let for_some_names = rule.resource_names.as_ref().is_some_and(|names| !names.is_empty());
    !for_some_names
        && rule.verbs.iter().any(|item| item == "*" || item == verb)
        && has(&rule.api_groups, group)
        && (has(&rule.resources, resource) || any_of_sub)
}

/// Names that something else has already: one list of names for each kind.
async fn clashes(
    cluster: &Cluster,
    resources: &[Resource],
    live: &Live,
    namespace: NamespaceState,
) -> Result<Vec<Finding>, Error> {
    let unknown: Vec<_> = resources
        .iter()
        .filter(|resource| !live.contains_key(&(resource.kind, resource.name.clone())))
        .collect();
    if namespace == NamespaceState::Missing || unknown.is_empty() {
        return Ok(vec![]);
    }
    let kinds: BTreeSet<Kind> = unknown.iter().map(|resource| resource.kind).collect();
    let looked_up = kinds.into_iter().map(|kind| async move {
        match cluster.list_names(kind).await {
            Ok(found) => Ok(found.into_iter().map(|metadata| (kind, metadata)).collect()),
            Err(kubernetes::Error::Forbidden { .. }) => Ok(vec![]),
            Err(error) => Err(error),
        }
    });
    let there: Vec<_> = futures::future::try_join_all(looked_up)
        .await?
        .into_iter()
        .flatten()
        .collect();
    Ok(unknown
        .into_iter()
        .filter_map(|resource| {
            let has_name = |(kind, metadata): &&(Kind, ObjectMeta)| {
                *kind == resource.kind && metadata.name.as_deref() == Some(resource.name.as_str())
            };
            there
                .iter()
                .find(has_name)
                .map(|(_, metadata)| clash(resource, metadata))
        })
        .collect())
}

fn clash(resource: &Resource, metadata: &ObjectMeta) -> Finding {
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let owner = match (label(crate::render::labels::MANAGED_BY), label(INSTANCE)) {
        (Some(manager), Some(instance)) => format!("managed by {manager} for {instance}"),
        (Some(manager), None) => format!("managed by {manager}"),
        _ => "not sparkha's".to_owned(),
    };
    Finding::new(
        Severity::Clash,
        format!("{} {} is there already, {owner}", resource.kind, resource.name),
        "choose another NAME or namespace, or remove it",
    )
}

async fn quota(
    cluster: &Cluster,
    sets: &[StatefulSet],
    live_sets: &[StatefulSet],
    namespace: NamespaceState,
) -> Vec<Finding> {
    if namespace == NamespaceState::Missing {
        return vec![];
    }
    let (quotas, ranges) = futures::join!(cluster.list_of::<ResourceQuota>(""), cluster.list_of::<LimitRange>(""),);
    let mut more = demand::amounts(sets);
    for (name, has) in demand::amounts(live_sets) {
        *more.entry(name).or_default() -= has;
    }
    // Who may not read them learns it from the permissions.
    let over = quotas.iter().flatten().flat_map(|quota| {
        demand::over_quota(quota, &more).into_iter().map(|what| {
            Finding::new(
                Severity::Failure,
                format!("ResourceQuota {} does not allow it: {what}", quota.name_any()),
                "lower the cluster's resources, or ask for a larger quota",
            )
        })
    });
    let out = ranges.iter().flatten().flat_map(|range| {
        demand::out_of_range(range, sets).into_iter().map(|what| {
            Finding::new(
                Severity::Failure,
                format!("LimitRange {} does not allow it: {what}", range.name_any()),
                "change resources in the cluster file",
            )
        })
    });
    over.chain(out).collect()
}

async fn room(cluster: &Cluster, spec: &ClusterSpec, sets: &[StatefulSet]) -> Vec<Finding> {
    let nodes: Api<Node> = Api::all(cluster.client());
    let pods: Api<Pod> = Api::all(cluster.client());
    let (nodes, pods) = futures::join!(cluster.list_in(&nodes, ""), cluster.list_in(&pods, ""));
    let (Ok(nodes), Ok(pods)) = (nodes, pods) else {
        // Most users may not; the scheduler will say.
        tracing::info!(
            "whether the nodes have room was not checked: you may not list nodes and pods of all namespaces"
        );
        return vec![];
    };
    let own = |pod: &Pod| {
        pod.namespace().as_deref() == Some(cluster.namespace().as_str())
            && is_ours(pod.metadata.labels.as_ref())
            && pod.labels().get(INSTANCE).map(String::as_str) == Some(spec.name.as_str())
    };
    let others: Vec<_> = pods.into_iter().filter(|pod| !own(pod)).collect();
    let demands = demand::pods(sets);
    let left_over = demand::without_a_node(&demands, &nodes, &others);
    if left_over.is_empty() {
        return vec![];
    }
    let names: Vec<_> = left_over.iter().map(|demand| demand.name.as_str()).collect();
    vec![Finding::new(
        Severity::Failure,
        format!(
            "the nodes have no room for {} of {} pods ({}); {} are free on {} nodes",
            left_over.len(),
            demands.len(),
            names.join(", "),
            demand::free_in_all(&nodes, &others),
            nodes.len()
        ),
        "ask for less (workers, resources.requests), or add nodes",
    )]
}

async fn storage(cluster: &Cluster, spec: &ClusterSpec) -> Vec<Finding> {
    let claims = new_claims(spec);
    if claims.is_empty() {
        return vec![];
    }
    let api: Api<StorageClass> = Api::all(cluster.client());
    let classes = match cluster.list_in(&api, "").await {
        Ok(classes) => classes,
        Err(error) => {
            tracing::info!("storage classes were not checked: {error}");
            return vec![];
        }
    };
    let is_default = |class: &&StorageClass| {
        class
            .annotations()
            .get("storageclass.kubernetes.io/is-default-class")
            .map(String::as_str)
            == Some("true")
    };
    let mut findings = Vec::new();
    for (part, claim) in claims {
        let class = match &claim.storage_class {
            Some(name) => classes.iter().find(|class| class.name_any() == *name),
            None => classes.iter().find(is_default),
        };
        let known: Vec<_> = classes.iter().map(ResourceExt::name_any).collect();
        match class {
            None => findings.push(Finding::new(
                Severity::Failure,
                match &claim.storage_class {
                    Some(name) => format!("{part}: there is no storage class {name}"),
                    None => format!("{part}: there is no default storage class"),
                },
                if known.is_empty() {
                    "this cluster has none; use an emptyDir or a claim that exists".to_owned()
                } else {
                    format!("set storageClassName to one of {}", known.join(", "))
                },
            )),
            Some(class) if claim.access_mode == "ReadWriteMany" && DISKS.contains(&class.provisioner.as_str()) => {
                findings.push(Finding::new(
                    Severity::Failure,
                    format!(
                        "{part}: storage class {} ({}) makes disks, and a disk cannot be ReadWriteMany",
                        class.name_any(),
                        class.provisioner
                    ),
                    "use ReadWriteOnce (each pod gets its own claim), or a class of a shared file system",
                ));
            }
            Some(_) => {}
        }
    }
    findings
}

/// Every new claim of the cluster, with the part of the file that asks for it.
fn new_claims(spec: &ClusterSpec) -> Vec<(String, NewClaim)> {
    let mut claims = Vec::new();
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
    for (part, pod) in settings {
        for volume in &pod.volumes {
            if let VolumeSource::NewClaim(claim) = &volume.source {
                claims.push((format!("{part}.volumes {}", volume.name), claim.clone()));
            }
        }
    }
    claims
}

async fn external_zookeeper(cluster: &Cluster, spec: &ClusterSpec) -> Vec<Finding> {
    let Recovery::ExternalZooKeeper(external) = &spec.recovery else {
        return vec![];
    };
    let connected = super::teardown::connect_zookeeper(cluster, &external.servers, ZOOKEEPER_TIMEOUT).await;
    let answered = match connected {
        Ok(reached) => zookeeper::exists(&reached.client, "/").await.map(|_| ()),
        Err(error) => Err(error),
    };
    match answered {
        Ok(()) => vec![],
        Err(error) => vec![Finding::new(
            Severity::Failure,
            error.to_string(),
            "check zookeeper.external.servers; --skip-preflight goes on if only this machine cannot reach it",
        )],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_allow_what_roles_say() {
        let rule = |value| serde_json::from_value::<ResourceRule>(value).unwrap();
        let all = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        assert!(allows(&all, "apps", "statefulsets", "patch"));
        let logs = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["*/log"]}));
        assert!(allows(&logs, "", "pods/log", "get"));
        assert!(!allows(&logs, "", "pods", "get"));
        let named = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}));
        assert!(!allows(&named, "", "pods", "get"));
    }
}
