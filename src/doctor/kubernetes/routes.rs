//! Whether the web UIs are reached by their names: the routes of the cluster, resolved and requested from this machine.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::facts::{Observed, joined};
use crate::doctor::{Check, Findings};
use crate::model::labels::Component;
use crate::model::reports::MasterStatus;
use crate::platform::kubernetes::Cluster;
use crate::render::inventory::Inventory;
use crate::routes::check::{CheckedServers, RouteReport, check};
use crate::routing::vulcand::Scope;
use crate::routing::{self, RoutedPod, Table};
use crate::spec::names::UiDomain;
use crate::spec::words::counted;
use crate::state::Facts;

const NAME: &str = "web UIs";
/// Workers whose web UIs are requested: all names have one pattern, and where none is resolved, a thousand would take minutes.
const WORKERS_MAX: usize = 8;

/// Requests the web UIs of the leader, of every master and of some workers.
pub async fn check_routes(
    cluster: &Cluster,
    inventory: &Inventory,
    facts: &Facts,
    pods: &Observed<Vec<Pod>>,
) -> Observed<RouteReport> {
    let namespace = cluster.namespace().as_str();
    let name = &inventory.cluster.name;
    let member = |pod: &Pod| {
        let status = pod.status.as_ref()?;
        let (phase, address) = (status.phase.as_deref(), status.pod_ip.as_deref());
        RoutedPod::of(&pod.metadata, phase, address, namespace, name.as_str())
    };
    let leads = |pod: &String| {
        let report = facts.masters.get(pod).and_then(|report| report.as_ref().ok());
        report.is_some_and(|report| report.status == MasterStatus::Alive)
    };
    let mut workers = 0;
    let is_requested = |member: &RoutedPod| {
        workers += usize::from(member.component == Component::Worker);
        member.component != Component::Worker || workers <= WORKERS_MAX
    };
    let routed = routing::RoutedCluster {
        namespace: namespace.to_owned(),
        name: name.clone(),
        alias: inventory.cluster.active_alias().cloned(),
        ui_domain: inventory.cluster.ui_domain.clone(),
        members: pods.iter().flatten().filter_map(member).filter(is_requested).collect(),
        leader: facts.pods.iter().map(ResourceExt::name_any).find(leads),
        driver_uis: vec![],
    };
    let table = Table::of([&routed]);
    let asked = CheckedServers {
        dns: None,
        router: None,
    };
    let scope = Scope::Namespace(cluster.namespace().clone());
    check(&table.routes, &scope, None, &asked)
        .await
        .map_err(|error| error.to_string())
}

pub fn judge(report: &Observed<RouteReport>, domain: &UiDomain) -> Vec<Check> {
    let report = match report {
        Ok(report) => report,
        Err(why) => return vec![Check::skipped(NAME, why, "")],
    };
    let routes = &report.routes;
    if routes.is_empty() {
        return vec![Check::skipped(NAME, "no pod has an address yet", "")];
    }
    let without_name: Vec<_> = routes.iter().filter(|route| route.addresses.is_empty()).collect();
    let with_problem: Vec<_> = routes
        .iter()
        .filter(|route| !route.addresses.is_empty() && !route.problems.is_empty())
        .collect();
    let mut findings = Findings::of(NAME);
    if !without_name.is_empty() {
        let mut hosts: Vec<_> = without_name.iter().map(|route| route.host.clone()).collect();
        hosts.dedup();
        let observed = format!(
            "{} of {} of the UI domain {domain} not resolved here ({})",
            without_name.len(),
            counted(routes.len(), "name"),
            joined(&hosts),
        );
        findings.warn(
            observed,
            "resolve the domain's names to a router (`sparkha route render --format dnsmasq`, `sparkha router --dns`); `sparkha ui` needs neither",
        );
    }
    if let Some(problem) = with_problem.first().and_then(|route| route.problems.first()) {
        let observed = format!(
            "{} of {} are not reached by their names; {}: {}",
            with_problem.len(),
            routes.len(),
            with_problem[0].host,
            problem.message
        );
        findings.warn(observed, &problem.hint);
    }
    let addresses: std::collections::BTreeSet<&IpAddr> = routes.iter().flat_map(|route| &route.addresses).collect();
    let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let all = routes.len();
    findings.or_ok(format!("{all} are reached by their names, through {}", joined(&list)))
}
