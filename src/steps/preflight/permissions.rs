//! Whether the user may do what create, status and teardown will do.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec,
};
use kube::api::{Api, PostParams};

use super::{Finding, NamespaceState, Severity};
use crate::platform::kubernetes::{self, Cluster};
use crate::render::kind::Kind;
use crate::render::role::permissions;
use crate::steps::Error;

/// One question for all rules; what they do not clearly allow is asked one by one, for rules may be incomplete.
pub async fn missing_permissions(
    cluster: &Cluster,
    kinds: &BTreeSet<Kind>,
    namespace: NamespaceState,
) -> Result<Vec<Finding>, Error> {
    let rules = rules(cluster).await?;
    let mut wanted: Vec<_> = permissions(|kind| kinds.contains(kind))
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

/// Whether the user may do this in the namespace.
pub async fn may(cluster: &Cluster, group: &str, resource: &str, verb: &str) -> Result<bool, Error> {
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
