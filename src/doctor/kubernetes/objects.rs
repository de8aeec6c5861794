//! The cluster's objects: all present, none left over, and no name taken by somebody else.

use std::collections::BTreeMap;

use kube::core::ObjectMeta;

use super::facts::{DiagnosticFacts, joined};
use crate::doctor::{Check, Findings};
use crate::model::kind::Kind;
use crate::model::labels::{INSTANCE, is_of_cluster};
use crate::spec::ClusterSpec;

const NAME: &str = "objects";

pub fn judge(facts: &DiagnosticFacts, spec: &ClusterSpec) -> Vec<Check> {
    let name = spec.name.as_str();
    let services = facts.services.iter().flatten();
    let services = services.map(|service| (Kind::Service, &service.metadata));
    let sets = facts.sets.iter().map(|set| (Kind::StatefulSet, &set.metadata));
    let live: Vec<_> = services.chain(sets).collect();
    let existing = match &facts.cluster {
        Ok(existing) => existing.as_ref(),
        Err(why) => {
            let hint = "the checks need the cluster's inventory: grant `get configmaps`, and use the sparkha that made it or a newer one";
            return vec![Check::failed(NAME, why, hint)];
        }
    };
    let listed = |kind, name: &str| existing.is_some_and(|existing| existing.inventory.entry(kind, name).is_some());
    // Objects with the cluster's labels that are not in its inventory.
    let left_over: Vec<_> = live
        .iter()
        .filter(|(_, metadata)| is_of_cluster(metadata.labels.as_ref(), name))
        .filter_map(|(kind, metadata)| Some((*kind, metadata.name.as_deref()?)))
        .filter(|(kind, name)| !listed(*kind, name))
        .map(|(kind, name)| format!("{kind} {name}"))
        .collect();
    let mut findings = Findings::of(NAME);
    if !left_over.is_empty() {
        findings.warn(
            format!(
                "not in the cluster's inventory, but labelled as its own: {}",
                joined(&left_over)
            ),
            "left over, or labelled by hand: `kubectl delete` what you do not need",
        );
    }
    match existing {
        Some(existing) => {
            let entries = existing.inventory.objects.iter();
            let gone: Vec<_> = entries
                .filter(|entry| matches!(entry.kind, Kind::Service | Kind::StatefulSet))
                .filter(|entry| {
                    !live
                        .iter()
                        .any(|(kind, metadata)| *kind == entry.kind && is(metadata, &entry.name))
                })
                .map(|entry| format!("{} {}", entry.kind, entry.name))
                .collect();
            if !gone.is_empty() {
                let observed = format!("objects of the inventory are missing: {}", joined(&gone));
                findings.fail(observed, "`sparkha create` with the same arguments recreates it");
            }
        }
        None => taken(facts, spec, &live, &mut findings),
    }
    let owns = |claim: &str| existing.is_some_and(|existing| existing.inventory.owns_claim(claim));
    let claims = facts.claims.iter().flatten();
    let forgotten: Vec<_> = claims
        .filter(|claim| is_of_cluster(claim.metadata.labels.as_ref(), name))
        .filter_map(|claim| claim.metadata.name.clone())
        .filter(|claim| !owns(claim))
        .collect();
    if !forgotten.is_empty() {
        let observed = format!("claims of a former cluster are left: {}", joined(&forgotten));
        let hint = "the next cluster of this name reuses them; `kubectl delete pvc` removes them with their data";
        findings.warn(observed, hint);
    }
    findings.or_ok(match existing {
        Some(existing) => format!("all {} of the inventory", existing.inventory.objects.len()),
        None => format!("no object conflicts with a cluster {name}"),
    })
}

fn is(metadata: &ObjectMeta, name: &str) -> bool {
    metadata.name.as_deref() == Some(name)
}

/// Names that a new cluster would need.
fn taken(facts: &DiagnosticFacts, spec: &ClusterSpec, live: &[(Kind, &ObjectMeta)], findings: &mut Findings) {
    let owners: BTreeMap<_, _> = live
        .iter()
        .filter(|(_, metadata)| !is_of_cluster(metadata.labels.as_ref(), spec.name.as_str()))
        .filter_map(|(kind, metadata)| Some(((*kind, metadata.name.as_deref()?), *metadata)))
        .collect();
    for resource in &facts.desired {
        let Some(metadata) = owners.get(&(resource.kind, resource.name.as_str())) else {
            continue;
        };
        let instance = metadata.labels.as_ref().and_then(|labels| labels.get(INSTANCE));
        let owner = instance.map_or("not sparkha's".to_owned(), |instance| format!("of {instance}"));
        let observed = format!("{} {} exists already, {owner}", resource.kind, resource.name);
        findings.fail(observed, "choose another NAME or namespace, or remove it");
    }
}
