//! The permissions that sparkha's users need, all within one namespace. The same table is printed as Roles for the
//! administrator and checked with the API server in preflight, so the documented Roles are always current.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Resource;
use crate::model::kind::Kind;
use crate::model::labels::Component::{self, Connect, History, Master, Worker, ZooKeeper};
use crate::spec::names::ClusterName;
use crate::spec::resolve::MASTERS;
use crate::spec::{ClusterSpec, Recovery};

/// Verbs on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub group: &'static str,
    /// With subresource, as Roles write it: `pods/log`.
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
    /// Names of objects; empty: all objects.
    pub names: Vec<String>,
    /// The purpose, for messages.
    pub purpose: &'static str,
    /// Whether sparkha works without it, with less information.
    pub optional: bool,
}

impl Permission {
    /// A permission in the core group.
    pub fn core(resource: &'static str, verbs: &'static [&'static str], purpose: &'static str) -> Self {
        Self {
            group: "",
            resource,
            verbs,
            names: vec![],
            purpose,
            optional: false,
        }
    }

    fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    fn of_kind(kind: Kind, verbs: &'static [&'static str], names: Vec<String>) -> Self {
        Self {
            group: kind.group(),
            resource: kind.plural(),
            verbs,
            names,
            purpose: match kind {
                Kind::NetworkPolicy => "admit none but those who belong to the cluster, as networkPolicy.enabled asks",
                _ => "create, change and remove the cluster",
            },
            optional: kind.is_optional(),
        }
    }
}

/// Maximum number of named later generations of a cluster: see `lifecycle::generations`.
const GENERATIONS: std::ops::RangeInclusive<u32> = 2..=3;
/// Server-side apply of a new object requires both `patch` and `create`.
const BY_NAME: &[&str] = &["get", "patch", "delete"];
/// Verbs that cannot be restricted to names.
const OF_ALL: &[&str] = &["list", "create"];
/// StatefulSets are also waited for.
const OF_ALL_SETS: &[&str] = &["list", "watch", "create"];
/// Listing all Secrets of a namespace is not needed.
const OF_ALL_SECRETS: &[&str] = &["create"];

/// Permissions of create, status and teardown in a namespace, for these objects.
pub fn permissions(wanted: &[Resource]) -> Vec<Permission> {
    let mut objects: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    for Resource { kind, name, .. } in wanted {
        objects.entry(*kind).or_default().push(name.clone());
    }
    managing(objects).into_iter().chain(seeing()).collect()
}

/// Additional permissions for changing objects, beyond [`seeing`].
fn managing(objects: impl IntoIterator<Item = (Kind, Vec<String>)>) -> Vec<Permission> {
    let managed = objects.into_iter().flat_map(|(kind, names)| {
        let of_all = match kind {
            Kind::StatefulSet => OF_ALL_SETS,
            Kind::Secret => OF_ALL_SECRETS,
            _ => OF_ALL,
        };
        [
            Permission::of_kind(kind, BY_NAME, names),
            Permission::of_kind(kind, of_all, vec![]),
        ]
    });
    managed
        .chain([
            Permission::core("pods", &["delete"], "start pods anew with another secret, and drills").optional(),
            Permission::core(
                "persistentvolumeclaims",
                &["get", "list", "delete"],
                "remove the cluster's volumes",
            ),
        ])
        .collect()
}

/// Permissions for viewing a cluster, without changing it.
fn seeing() -> Vec<Permission> {
    vec![
        Permission::core("pods", &["get", "list", "watch"], "see whether pods run"),
        // A WebSocket uses GET, kubectl's older protocol POST; servers check either verb.
        Permission::core(
            "pods/portforward",
            &["get", "create"],
            "ask masters and ZooKeepers for their state",
        ),
        Permission::core("pods/log", &["get"], "show why a pod crashes").optional(),
        Permission::core("events", &["list", "watch"], "show why pods do not come up").optional(),
        Permission::core("resourcequotas", &["list"], "check the quota beforehand").optional(),
        Permission::core("limitranges", &["list"], "check the limit ranges beforehand").optional(),
    ]
}

/// Permissions of users who may not change clusters: for finding clusters, and for `doctor`.
fn viewing() -> Vec<Permission> {
    let read: &[&str] = &["get", "list"];
    let kinds = Kind::ALL.into_iter().filter(|&kind| kind != Kind::Secret);
    let kinds = kinds.map(|kind| {
        let verbs = match kind {
            // `ui`, `router` and `route watch` watch for new clusters.
            Kind::ConfigMap | Kind::StatefulSet => &["get", "list", "watch"],
            _ => read,
        };
        Permission::of_kind(kind, verbs, vec![])
    });
    let others = [
        Permission::core("endpoints", &["list"], "see where Services lead"),
        Permission {
            group: "discovery.k8s.io",
            ..Permission::core("endpointslices", &["list"], "see where Services lead")
        },
        Permission::core("persistentvolumeclaims", read, "see the cluster's volumes"),
    ];
    kinds.chain(others).chain(seeing()).collect()
}

/// Additional permissions of `submit` and `jobs --kill`, beyond [`viewing`]: they create and delete drivers' pods, and stream files into them.
fn submitting() -> [Permission; 2] {
    [
        Permission::core("pods", &["create", "patch", "delete"], "run jobs"),
        Permission::core("pods/exec", &["get", "create"], "run jobs"),
    ]
}

/// All possible names of a cluster's objects, with any cluster file.
fn objects(name: &ClusterName) -> [(Kind, Vec<String>); Kind::ALL.len()] {
    let generations = GENERATIONS.filter_map(|number| name.generation(number).ok());
    let clusters: Vec<_> = [name.clone()].into_iter().chain(generations).collect();
    let of = |kind: Kind| (kind, clusters.iter().flat_map(|name| names(kind, name)).collect());
    Kind::ALL.map(of)
}

/// The user's Secret with the login that removes znodes from an external ZooKeeper.
fn external_secret(spec: &ClusterSpec) -> Option<Permission> {
    let Recovery::ExternalZooKeeper(external) = &spec.recovery else {
        return None;
    };
    Some(Permission {
        names: vec![external.secret.clone()?],
        ..Permission::core("secrets", &["get"], "remove the masters' state from ZooKeeper")
    })
}

/// All possible names of a cluster's objects of one kind.
fn names(kind: Kind, name: &ClusterName) -> Vec<String> {
    let parts = || {
        let parts = [Master, Worker, ZooKeeper, History, Connect];
        parts.map(|part: Component| part.object_name(name)).to_vec()
    };
    match kind {
        Kind::ConfigMap => vec![name.inventory(), name.conf()],
        Kind::Secret => vec![name.auth()],
        Kind::ServiceAccount => vec![name.service_account()],
        Kind::Service => {
            let mut services = vec![
                name.masters_service(),
                name.ui_service(),
                name.workers_service(),
                name.zookeeper(),
                name.history(),
                name.connect(),
            ];
            services.extend((0..*MASTERS.end()).map(|ordinal| name.master(ordinal)));
            services
        }
        Kind::NetworkPolicy | Kind::PodMonitor => [parts(), vec![name.drivers()]].concat(),
        Kind::PodDisruptionBudget | Kind::StatefulSet | Kind::HorizontalPodAutoscaler => parts(),
    }
}

/// The Roles to bind to sparkha's users: to view clusters, to run jobs, and to operate this cluster.
pub fn roles(spec: &ClusterSpec) -> [Role; 3] {
    let namespace = spec.namespace.as_ref().map(ToString::to_string);
    let role = |name: String, permissions: Vec<Permission>| Role {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: namespace.clone(),
            ..Default::default()
        },
        rules: Some(permissions.into_iter().map(rule).collect()),
    };
    let with = |others: Vec<Permission>| viewing().into_iter().chain(others).collect();
    let mut operating = managing(objects(&spec.name));
    operating.extend(external_secret(spec));
    [
        role("sparkha-view".into(), viewing()),
        role("sparkha-submit".into(), with(submitting().into())),
        role(format!("sparkha-operate-{}", spec.name), with(operating)),
    ]
}

fn rule(permission: Permission) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![permission.group.into()]),
        resources: Some(vec![permission.resource.into()]),
        resource_names: Some(permission.names).filter(|names| !names.is_empty()),
        verbs: permission.verbs.iter().map(|&verb| verb.to_owned()).collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::render;
    use crate::spec::resolve::{Source, resolve};

    #[test]
    fn the_role_lists_all_possible_names_of_objects() {
        for text in [
            "masters: {count: 7}\nhistory: true\nconnect: true\nmetrics: {podMonitor: true}\nworkers: {autoscale: {min: 1, max: 4}}\n",
            "masters: {count: 1}\n",
        ] {
            let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
            let named = objects(&spec.name);
            for Resource { kind, name, .. } in render(&spec).all(&spec) {
                let (_, names) = named.iter().find(|(of, _)| *of == kind).unwrap();
                assert!(names.contains(&name), "{kind} {name}");
            }
        }
    }

    #[test]
    fn only_the_operator_role_grants_access_to_named_objects() {
        let text = "zookeeper: {external: {servers: ['zk:2181'], secret: ours}}\n";
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let [view, submit, operate] = roles(&spec).map(|role| role.rules.unwrap());
        let of = |rules: &[PolicyRule], resource: &str| {
            let is_it = |rule: &&PolicyRule| rule.resources.as_ref().unwrap()[0] == resource;
            rules.iter().filter(is_it).cloned().collect::<Vec<_>>()
        };
        for rules in [&view, &submit] {
            assert_eq!(of(rules, "secrets"), []);
        }
        for rule in &view {
            let changes = ["patch", "delete"].map(String::from);
            assert!(!rule.verbs.iter().any(|verb| changes.contains(verb)), "{rule:?}");
        }
        let secrets = of(&operate, "secrets");
        let named = |rule: &PolicyRule| rule.resource_names.clone().unwrap_or_default().join(" ");
        assert_eq!(named(&secrets[0]), "spark-auth spark-2-auth spark-3-auth");
        assert_eq!(secrets[1].verbs, ["create"]);
        assert_eq!(
            (named(&secrets[2]), secrets[2].verbs.join(" ")),
            ("ours".into(), "get".into())
        );
        assert_eq!(of(&operate, "pods/exec"), []);
        // The Role allows changing or removing created objects only by name.
        for kind in Kind::ALL {
            for rule in of(&operate, kind.plural()) {
                let changes = rule.verbs.iter().any(|verb| verb == "patch" || verb == "delete");
                assert!(!changes || rule.resource_names.is_some(), "{rule:?}");
            }
        }
    }
}
