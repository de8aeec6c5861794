//! Whether every web UI is reached by its name: Vulcand's objects, the name server's answers, and the responses through the router.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::stream::StreamExt;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::{Client, StatusCode};
use serde::Serialize;

use crate::clients::http;
use crate::lifecycle::Error;
use crate::model::error_chain::root_cause;
use crate::model::reports::{MasterReport, MasterStatus};
use crate::routes::publish::RoutePublisher;
use crate::routing::vulcand::Scope;
use crate::routing::vulcand::diff::Changes;
use crate::routing::{Role, Route};

/// Hosts checked at a time.
const CONCURRENT: usize = 16;
/// Timeout of one name with all retries.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of one query to one name server; a query is sent twice at most.
const NAME_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of a page is read.
const PAGE_MAX: usize = 1 << 20;

/// The results of all checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RouteReport {
    pub routes: Vec<RouteState>,
    /// Problems that concern no single route.
    pub problems: Vec<RouteProblem>,
}

/// The results of one route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteState {
    pub host: String,
    pub port: u16,
    pub pod: String,
    pub target: IpAddr,
    /// The name server's answer.
    pub addresses: BTreeSet<IpAddr>,
    pub problems: Vec<RouteProblem>,
}

/// A problem, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteProblem {
    pub check: RouteCheck,
    pub message: String,
    pub hint: String,
}

/// The check that found a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteCheck {
    /// Vulcand's objects.
    Vulcand,
    /// The name server's answer.
    Name,
    /// The response through the router.
    Page,
}

impl RouteReport {
    pub fn is_right(&self) -> bool {
        self.problems.is_empty() && self.routes.iter().all(|route| route.problems.is_empty())
    }

    /// Adds the problem to the routes of the host, or to the report if there are none.
    fn add(&mut self, host: &str, problem: RouteProblem) {
        let mut found = self.routes.iter_mut().filter(|route| route.host == host).peekable();
        match found.peek() {
            Some(_) => found.for_each(|route| route.problems.insert(0, problem.clone())),
            None => self.problems.push(RouteProblem {
                message: format!("{host}: {}", problem.message),
                ..problem
            }),
        }
    }
}

impl RouteProblem {
    fn new(check: RouteCheck, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            check,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// The servers that the checks query.
pub struct CheckedServers {
    /// The name server; those of this machine's configuration if `None`.
    pub dns: Option<SocketAddr>,
    /// The router's name or address. All names must resolve to it.
    pub router: Option<String>,
}

/// Checks every route of a table, several at a time.
pub async fn check(
    routes: &[Route],
    scope: &Scope,
    target: Option<&mut RoutePublisher>,
    servers: &CheckedServers,
) -> Result<RouteReport, Error> {
    // Report an unreachable Vulcand before waiting for anything.
    let changes = match target {
        Some(target) => Changes::from(&target.differences(routes, scope).await?),
        None => Changes::default(),
    };
    let resolver = resolver(servers.dns)?;
    let router = match &servers.router {
        Some(router) => Some(addresses(&resolver, router).await.map_err(|reason| Error::Usage {
            message: format!("the router `{router}` has no address: {reason}"),
            help: "pass an address, or a name that can be resolved, to --router".into(),
        })?),
        None => None,
    };
    let client = http::client(false)
        .build()
        .map_err(|error| Error::io("prepare an HTTP client")(std::io::Error::other(error)))?;
    let checks = routes
        .iter()
        .map(|route| check_route(route, &resolver, router.as_ref(), &client));
    let mut report = RouteReport {
        routes: futures::stream::iter(checks).buffered(CONCURRENT).collect().await,
        problems: Vec::new(),
    };
    if router.is_none() {
        same_address(&mut report.routes);
    }
    compare(&mut report, &changes);
    for conflict in changes.conflicts {
        let hint = "delete it, or give the clusters another UI domain";
        let problem = RouteProblem::new(RouteCheck::Vulcand, conflict.reason, hint);
        report.add(&conflict.host, problem);
    }
    Ok(report)
}

/// Every change that apply would make is a problem.
fn compare(report: &mut RouteReport, changes: &Changes) {
    let hint = "run `sparkha route apply` with the same arguments";
    let missing = "Vulcand has no such route, or a different one";
    let stale = "Vulcand has this route, but it leads nowhere";
    for (hosts, message) in [(&changes.written, missing), (&changes.deleted, stale)] {
        for host in hosts {
            report.add(host, RouteProblem::new(RouteCheck::Vulcand, message, hint));
        }
    }
}

/// Without a known router, all names should at least have the same addresses: those that most of them have.
fn same_address(routes: &mut [RouteState]) {
    let mut counts: BTreeMap<BTreeSet<IpAddr>, usize> = BTreeMap::new();
    for route in routes.iter().filter(|route| !route.addresses.is_empty()) {
        *counts.entry(route.addresses.clone()).or_default() += 1;
    }
    let Some((most, _)) = counts.into_iter().max_by_key(|(_, count)| *count) else {
        return;
    };
    for route in routes.iter_mut() {
        if !route.addresses.is_empty() && route.addresses != most {
            let (own, usual) = (list(&route.addresses), list(&most));
            let message = format!("it resolves to {own}, but most names to {usual}");
            let hint = "all names of the UI domain must resolve to the router; pass its address with --router";
            let problem = RouteProblem::new(RouteCheck::Name, message, hint);
            route.problems.insert(0, problem);
        }
    }
}

async fn check_route(
    route: &Route,
    resolver: &TokioResolver,
    router: Option<&BTreeSet<IpAddr>>,
    client: &Client,
) -> RouteState {
    let mut state = RouteState {
        host: route.host.clone(),
        port: route.port,
        pod: route.owner.pod.clone(),
        target: route.target,
        addresses: BTreeSet::new(),
        problems: Vec::new(),
    };
    let problem = match addresses(resolver, &route.host).await {
        Ok(found) => {
            let elsewhere = router.filter(|router| !found.is_subset(router));
            let problem = elsewhere
                .map(|router| format!("it resolves to {}, but the router is at {}", list(&found), list(router)));
            state.addresses = found;
            problem
        }
        Err(reason) => Some(format!("it does not resolve: {reason}")),
    };
    if let Some(message) = problem {
        let hint = "resolve the UI domain to the router: `sparkha route render --format dnsmasq` (or coredns)";
        state.problems.push(RouteProblem::new(RouteCheck::Name, message, hint));
    }
    // As a browser does, or would do if names were right.
    if let Some(address) = router.unwrap_or(&state.addresses).first()
        && let Err(problem) = page(route, SocketAddr::new(*address, route.port), client).await
    {
        state.problems.push(problem);
    }
    state
}

/// Requests the UI from the router as a browser would.
async fn page(route: &Route, router: SocketAddr, client: &Client) -> Result<(), RouteProblem> {
    let wrong = |message: String, hint: &str| RouteProblem::new(RouteCheck::Page, message, hint);
    let (status, text) = get(route, router, "/", client).await?;
    // Pages of all Spark servers have its logo.
    if !status.is_redirection() && !text.contains("spark-logo") {
        return Err(wrong(
            format!("{router} does not serve a page of Spark"),
            "something else listens there: check its other listeners, and --listen",
        ));
    }
    if route.owner.role == Role::Leader {
        let (_, json) = get(route, router, "/json/", client).await?;
        let status = serde_json::from_str::<MasterReport>(&json).map(|report| report.status);
        if !matches!(status, Ok(MasterStatus::Alive)) {
            let status = status.map_or_else(|_| "something else".to_owned(), |status| status.to_string());
            return Err(wrong(
                format!("the master behind it reports {status}, not ALIVE"),
                "the leader has changed: run `sparkha route apply`",
            ));
        }
    }
    Ok(())
}

async fn get(
    route: &Route,
    router: SocketAddr,
    path: &str,
    client: &Client,
) -> Result<(StatusCode, String), RouteProblem> {
    let wrong = |message: String, hint: &str| RouteProblem::new(RouteCheck::Page, message, hint);
    let failed = |error: reqwest::Error| {
        let reason = root_cause(&error.without_url());
        wrong(
            format!("{router} does not answer: {reason}"),
            "check that the router runs and listens at this port, and that no firewall blocks it",
        )
    };
    let request = client
        .get(format!("http://{router}{path}"))
        .header("host", format!("{}:{}", route.host, route.port));
    let mut answer = request.send().await.map_err(failed)?;
    let status = answer.status();
    let mut body = Vec::new();
    while body.len() < PAGE_MAX {
        match answer.chunk().await.map_err(failed)? {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => break,
        }
    }
    let hint = match status {
        _ if status == StatusCode::OK || status.is_redirection() => {
            return Ok((status, String::from_utf8_lossy(&body).into_owned()));
        }
        StatusCode::NOT_FOUND => {
            "the router does not know the name: run `sparkha route apply`, or render its file again"
        }
        _ if http::is_gateway_error(status) => {
            "the router cannot reach the pod: it must be able to connect to pod addresses"
        }
        _ => "check the router's log",
    };
    Err(wrong(format!("{router} answers {status}"), hint))
}

/// Queries one name server, or those of this machine's configuration.
fn resolver(dns: Option<SocketAddr>) -> Result<TokioResolver, Error> {
    let provider = TokioRuntimeProvider::default();
    let builder = match dns {
        None => TokioResolver::builder(provider),
        Some(address) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
            let server = NameServerConfig::new(address.ip(), true, connections.into());
            let config = ResolverConfig::from_name_servers(vec![server]);
            Ok(TokioResolver::builder_with_config(config, provider))
        }
    };
    builder
        .and_then(|mut builder| {
            builder.options_mut().timeout = NAME_TIMEOUT;
            builder.options_mut().attempts = 1;
            builder.build()
        })
        .map_err(|error| Error::Usage {
            message: format!("no name server to query: {}", root_cause(&error)),
            help: "pass --dns SERVER".into(),
        })
}

/// The addresses of a name. It is never completed with a search domain.
async fn addresses(resolver: &TokioResolver, name: &str) -> Result<BTreeSet<IpAddr>, String> {
    if let Ok(address) = name.parse() {
        return Ok([address].into());
    }
    let lookup = resolver.lookup_ip(format!("{}.", name.trim_end_matches('.')));
    match tokio::time::timeout(TIMEOUT, lookup).await {
        Ok(Ok(found)) => Ok(found.iter().collect()),
        Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => {
            Err("the name server has no address for it".into())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(host: &str, last: &[u8]) -> RouteState {
        RouteState {
            host: host.into(),
            port: 8080,
            pod: "spark-master-0".into(),
            target: [10, 0, 0, 1].into(),
            addresses: last.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_name_with_other_addresses_than_most_is_a_problem() {
        let mut routes = [state("a", &[1]), state("b", &[2]), state("c", &[1]), state("d", &[])];
        same_address(&mut routes);
        let problems = routes.iter().flat_map(|route| &route.problems).collect::<Vec<_>>();
        assert_eq!(problems.len(), 1);
        assert_eq!(
            routes[1].problems[0].message,
            "it resolves to 192.0.2.2, but most names to 192.0.2.1"
        );
    }

    #[test]
    fn problems_are_added_to_their_route_or_to_the_report() {
        let mut report = RouteReport {
            routes: vec![state("a", &[1]), state("b", &[1])],
            problems: Vec::new(),
        };
        assert!(report.is_right());
        let changes = Changes {
            written: ["b".into()].into(),
            deleted: ["old".into()].into(),
            unchanged: 1,
            conflicts: Vec::new(),
        };
        compare(&mut report, &changes);
        assert!(report.routes[0].problems.is_empty());
        assert_eq!(report.routes[1].problems.len(), 1);
        assert_eq!(
            report.problems[0].message,
            "old: Vulcand has this route, but it leads nowhere"
        );
        assert!(!report.is_right());
    }
}
