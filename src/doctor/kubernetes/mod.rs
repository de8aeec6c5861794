//! What a cluster on Kubernetes needs, and what is wrong with an existing one. [`gather`] queries, all other modules judge.

mod clocks;
mod disks;
mod dns;
mod facts;
mod gather;
mod images;
mod links;
mod network;
mod nodes;
mod objects;
mod pods;
mod probe;
mod routes;
mod server;
mod services;
mod spark;
mod storage;
mod versions;
mod zookeeper;

use super::{Check, now};
use crate::platform::kubernetes::{Cluster, Error};
use crate::spec::ClusterSpec;

/// All checks of a cluster.
pub struct Diagnosis {
    pub checks: Vec<Check>,
    /// Whether the cluster exists. If not, the checks are of what its creation needs.
    pub exists: bool,
    /// Why the API server could not be queried.
    pub unreachable: Option<Error>,
}

/// Checks an existing cluster, or what a new one would need.
pub async fn diagnose(cluster: &Cluster, spec: &ClusterSpec) -> Diagnosis {
    match gather::gather(cluster, spec).await {
        Ok(facts) => Diagnosis {
            checks: judge(&facts, spec, cluster.namespace().as_str()),
            exists: facts.existing().is_some(),
            unreachable: None,
        },
        Err(error) => Diagnosis {
            checks: vec![server::unreachable(&error)],
            exists: false,
            unreachable: Some(error),
        },
    }
}

fn judge(facts: &facts::DiagnosticFacts, spec: &ClusterSpec, namespace: &str) -> Vec<Check> {
    let existing = facts.existing();
    let probes = existing.map(|existing| &existing.probes);
    let mut checks = vec![
        server::judge(&facts.server),
        server::namespace(facts.namespace, namespace),
    ];
    checks.extend(server::permissions(&facts.permissions));
    checks.extend(nodes::judge(&facts.nodes));
    checks.extend(nodes::capacity(&facts.capacity, &facts.quota));
    checks.extend(storage::judge(&facts.storage, &facts.claims, &facts.events));
    checks.extend(dns::judge(&facts.name_server, probes));
    checks.extend(clocks::judge(&facts.server, probes));
    checks.extend(objects::judge(facts, spec));
    checks.extend(versions::old_spark(spec));
    let users = pods::users(facts.pods.as_deref().unwrap_or_default(), spec);
    checks.extend(links::judge(&users, &facts.services));
    if let Some(existing) = existing {
        checks.extend(nodes::placement(existing));
        checks.extend(versions::judge(existing, &users));
        checks.extend(images::judge(existing, &users, &facts.events));
        checks.extend(pods::judge(existing, &users, &facts.events, now()));
        checks.push(disks::judge(&existing.probes));
        checks.extend(services::judge(existing, facts));
        checks.extend(network::judge(&existing.probes));
        checks.extend(spark::judge(existing));
        checks.extend(super::s3::judge(spec, &existing.s3));
        checks.extend(routes::judge(&existing.routes, &existing.inventory.cluster.ui_domain));
    }
    checks.extend(zookeeper::judge(existing, spec, &facts.external_zookeeper));
    checks
}
