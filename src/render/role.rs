//! What sparkha must be allowed to do, all of it within one namespace. The same table is printed as a Role for the
//! administrator and asked of the API server in preflight, so the documented Role cannot drift from what is needed.

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::kind::Kind;

/// Verbs on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub group: &'static str,
    /// With subresource, as Roles write it: `pods/log`.
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
    /// Why, for messages.
    pub purpose: &'static str,
    /// Without it sparkha works, but sees less.
    pub optional: bool,
}

/// Server-side apply of a new object asks for both `patch` and `create`.
const MANAGE: &[&str] = &["get", "list", "create", "patch", "delete"];
/// Nobody needs to see all Secrets of a namespace.
const MANAGE_BY_NAME: &[&str] = &["get", "create", "patch", "delete"];
/// StatefulSets are also waited for.
const MANAGE_AND_WATCH: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// Everything that create, status and teardown do in a namespace, with these kinds.
pub fn permissions(kinds: impl Fn(&Kind) -> bool) -> Vec<Permission> {
    let managed = Kind::ALL.into_iter().filter(kinds).map(|kind| Permission {
        group: kind.group(),
        resource: kind.plural(),
        verbs: match kind {
            Kind::StatefulSet => MANAGE_AND_WATCH,
            Kind::Secret => MANAGE_BY_NAME,
            _ => MANAGE,
        },
        purpose: match kind {
            Kind::NetworkPolicy => "admit none but those who belong to the cluster, as networkPolicy.enabled asks",
            _ => "create, change and remove the cluster",
        },
        optional: kind.is_optional(),
    });
    let others = [
        ("pods", &["get", "list", "watch"][..], "see whether pods run", false),
        // A WebSocket is opened with GET, kubectl's older protocol with POST; servers ask for either.
        (
            "pods/portforward",
            &["get", "create"],
            "ask masters and ZooKeepers for their state",
            false,
        ),
        (
            "pods",
            &["delete"],
            "start pods anew with another secret, and drills",
            true,
        ),
        ("pods/log", &["get"], "show why a pod crashes", true),
        ("events", &["list", "watch"], "show why pods do not come up", true),
        (
            "persistentvolumeclaims",
            &["get", "list", "delete"],
            "remove the cluster's volumes",
            false,
        ),
        ("resourcequotas", &["list"], "check the quota beforehand", true),
        ("limitranges", &["list"], "check the limit ranges beforehand", true),
    ];
    let others = others.map(|(resource, verbs, purpose, optional)| Permission {
        group: "",
        resource,
        verbs,
        purpose,
        optional,
    });
    managed.chain(others).collect()
}

/// What following clusters needs beyond [`permissions`]: `ui`, `router` and `route watch` learn of new clusters at once.
fn following() -> Permission {
    Permission {
        group: "",
        resource: "configmaps",
        verbs: &["watch"],
        purpose: "follow clusters",
        optional: true,
    }
}

/// What `doctor` looks at beyond [`permissions`]; without it, it judges Services by their pods.
fn diagnosing() -> Permission {
    Permission {
        group: "",
        resource: "endpoints",
        verbs: &["list"],
        purpose: "see where Services lead",
        optional: true,
    }
}

/// What `submit` and `jobs --kill` need beyond [`permissions`]: drivers' pods come and go, and the user's files are streamed into them.
fn submitting() -> [Permission; 2] {
    [
        ("pods", &["create", "patch", "delete"][..]),
        ("pods/exec", &["get", "create"]),
    ]
    .map(|(resource, verbs)| Permission {
        group: "",
        resource,
        verbs,
        purpose: "run jobs",
        optional: true,
    })
}

/// The Role to bind to whoever runs sparkha.
pub fn role(namespace: Option<String>) -> Role {
    let rules = permissions(|_| true)
        .into_iter()
        .chain([following(), diagnosing()])
        .chain(submitting())
        .map(|permission| PolicyRule {
            api_groups: Some(vec![permission.group.into()]),
            resources: Some(vec![permission.resource.into()]),
            verbs: permission.verbs.iter().map(|&verb| verb.to_owned()).collect(),
            ..Default::default()
        })
        .collect();
    Role {
        metadata: ObjectMeta {
            name: Some("sparkha".into()),
            namespace,
            ..Default::default()
        },
        rules: Some(rules),
    }
}
