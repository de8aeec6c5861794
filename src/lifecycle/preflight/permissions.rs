//! Checks that the user has the permissions for create, status and teardown.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::authorization::v1::{ResourceRule, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use kube::api::{Api, PostParams};

use crate::lifecycle::Error;
use crate::model::finding::{Finding, Severity};
use crate::platform::kubernetes::namespace::NamespaceState;
use crate::platform::kubernetes::{self, Cluster};
use crate::render::Resource;
use crate::render::role::{Permission, permissions};

/// In the order of messages.
const VERBS: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];

/// Reads all rules with one request. Permissions that they do not clearly grant are checked one by one, because the
/// rules may be incomplete.
pub async fn missing_permissions(
    cluster: &Cluster,
    resources: &[Resource],
    namespace: NamespaceState,
) -> Result<Vec<Finding>, Error> {
    let mut permissions = permissions(resources);
    if namespace == NamespaceState::Missing {
        permissions.push(Permission::core("namespaces", &["create"], "create the namespace"));
    }
    let rules = rules(cluster).await?;
    let requests = permissions
        .iter()
        .flat_map(each)
        .filter(|request| !rules.iter().any(|rule| allows(rule, request)))
        .map(|request| async move {
            let Permission { group, resource, .. } = request.permission;
            let allowed = cluster.may(group, resource, request.verb, request.name).await?;
            Ok::<_, Error>((!allowed).then_some(request))
        });
    let denied = futures::future::try_join_all(requests).await?;
    // One finding per resource.
    let mut by_resource: BTreeMap<&str, Vec<AccessRequest>> = BTreeMap::new();
    for request in denied.into_iter().flatten() {
        by_resource
            .entry(request.permission.resource)
            .or_default()
            .push(request);
    }
    let namespace = cluster.namespace().to_string();
    Ok(by_resource.values().map(|denied| finding(denied, &namespace)).collect())
}

/// A verb on one object or on all.
#[derive(Clone, Copy)]
struct AccessRequest<'a> {
    permission: &'a Permission,
    verb: &'a str,
    name: Option<&'a str>,
}

/// The access requests of a permission.
fn each(permission: &Permission) -> Vec<AccessRequest<'_>> {
    let names: Vec<_> = match permission.names.as_slice() {
        [] => vec![None],
        names => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    let verbs = permission.verbs.iter();
    verbs
        .flat_map(|&verb| names.iter().map(move |&name| AccessRequest { permission, verb, name }))
        .collect()
}

/// The finding for one resource.
fn finding(denied: &[AccessRequest<'_>], namespace: &str) -> Finding {
    let Permission { resource, purpose, .. } = denied[0].permission;
    let verbs: BTreeSet<_> = denied
        .iter()
        .map(|request| (VERBS.iter().position(|verb| *verb == request.verb), request.verb))
        .collect();
    let verbs: Vec<_> = verbs.into_iter().map(|(_, verb)| verb).collect();
    let names: BTreeSet<_> = denied.iter().filter_map(|request| request.name).collect();
    // Names are listed if only some of them are denied.
    let names = match denied
        .iter()
        .all(|request| names.len() < request.permission.names.len())
    {
        true => format!(" {}", names.into_iter().collect::<Vec<_>>().join(", ")),
        false => String::new(),
    };
    let severity = match denied.iter().all(|request| request.permission.optional) {
        true => Severity::Warning,
        false => Severity::NotAllowed,
    };
    Finding::new(
        severity,
        format!(
            "you may not {} {resource}{names} in namespace {namespace}; it is needed to {purpose}",
            verbs.join(", ")
        ),
        "ask for the Roles that `sparkha render --role` prints",
    )
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
        .call("read your permissions", || api.create(&params, &review))
        .await;
    match answer {
        Ok(review) => Ok(review.status.map(|status| status.resource_rules).unwrap_or_default()),
        Err(kubernetes::Error::Forbidden { .. }) => Ok(vec![]),
        Err(error) => Err(error.into()),
    }
}

fn allows(rule: &ResourceRule, request: &AccessRequest<'_>) -> bool {
    let Permission { group, resource, .. } = request.permission;
    let has = |list: &Option<Vec<String>>, resources: &str| {
        list.iter().flatten().any(|item| item == "*" || item == resources)
    };
    let any_of_sub = resource
        .split_once('/')
        .is_some_and(|(_, sub)| rule.resources.iter().flatten().any(|item| *item == format!("*/{sub}")));
    let names = rule.resource_names.as_deref().unwrap_or_default();
    let of_it = names.is_empty() || request.name.is_some_and(|name| names.iter().any(|item| item == name));
    of_it
        && rule.verbs.iter().any(|item| item == "*" || item == request.verb)
        && has(&rule.api_groups, group)
        && (has(&rule.resources, resource) || any_of_sub)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_grant_verbs_on_resources_and_names() {
        let rule = |value| serde_json::from_value::<ResourceRule>(value).unwrap();
        let may = |rule: &ResourceRule, group, resource, verb, name| {
            let permission = Permission {
                group,
                ..Permission::core(resource, &[], "")
            };
            let permission = &permission;
            allows(rule, &AccessRequest { permission, verb, name })
        };
        let all = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        assert!(may(&all, "apps", "statefulsets", "patch", None));
        assert!(may(&all, "apps", "statefulsets", "patch", Some("a")));
        let logs = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["*/log"]}));
        assert!(may(&logs, "", "pods/log", "get", None));
        assert!(!may(&logs, "", "pods", "get", None));
        let named = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}));
        assert!(!may(&named, "", "pods", "get", None));
        assert!(!may(&named, "", "pods", "get", Some("b")));
        assert!(may(&named, "", "pods", "get", Some("a")));
    }

    #[test]
    fn missing_permissions_are_reported_once_per_resource() {
        let permission = |verbs: &'static [&'static str], names: &[&str]| Permission {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            ..Permission::core("services", verbs, "serve")
        };
        let (named, all) = (permission(&["get", "patch"], &["a", "b"]), permission(&["list"], &[]));
        let message = |denied: Vec<AccessRequest<'_>>| finding(&denied, "data").message;
        assert_eq!(
            message([each(&named), each(&all)].concat()),
            "you may not get, list, patch services in namespace data; it is needed to serve"
        );
        let of_b = each(&named)
            .into_iter()
            .filter(|request| request.name == Some("b"))
            .collect();
        assert_eq!(
            message(of_b),
            "you may not get, patch services b in namespace data; it is needed to serve"
        );
    }
}
