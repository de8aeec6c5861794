//! `sparkha route render`.

use std::net::IpAddr;

use clap::{Args, ValueEnum};

use super::target::NamingArguments;
use crate::commands::arguments::Global;
use crate::commands::{Clusters, heading};
use crate::lifecycle::Error;
use crate::report;
use crate::routing::ingress::Addresses;
use crate::routing::{Route, coredns, dnsmasq, domains, gateway, ingress, nginx, traefik, vulcand};
use crate::spec::names::{OwnerName, UiDomain};

/// Print the routes as configuration for a router or DNS server
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  sparkha route render --format nginx --namespace data >/etc/nginx/conf.d/spark.conf
  sparkha route render --format dnsmasq --router-address 192.0.2.1
  sparkha route render -A --format coredns --router-address 192.0.2.1 --domain ui.example.com
  sparkha route render --format vulcand -A | sh
  sparkha route render --format json --local")]
pub struct Arguments {
    /// Print the routes of all namespaces
    #[arg(short = 'A', long, help_heading = heading::SELECTION)]
    all_namespaces: bool,
    /// Configuration format
    #[arg(long, value_enum, help_heading = heading::OUTPUT)]
    format: RouteFormat,
    #[command(flatten)]
    naming: NamingArguments,
    /// Name of the Gateway that HTTPRoutes refer to
    #[arg(long, value_name = "NAME", default_value = "sparkha", help_heading = heading::ROUTES)]
    gateway: String,
    /// Ingress class [default: the Kubernetes cluster's]
    #[arg(long, value_name = "NAME", help_heading = heading::ROUTES)]
    ingress_class: Option<String>,
    /// Address of the router, required for DNS formats
    #[arg(long, value_name = "IP", help_heading = heading::DNS)]
    router_address: Option<IpAddr>,
    /// UI domain to answer for; may be repeated
    ///
    /// Without it the configuration answers for all domains of the clusters, or with -A only for k8s.
    #[arg(long, value_name = "NAME", value_parser = UiDomain::parse, help_heading = heading::DNS)]
    domain: Vec<UiDomain>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RouteFormat {
    /// sparkha's route table
    Json,
    /// etcdctl commands that write Vulcand's keys
    Vulcand,
    Nginx,
    /// Traefik's file provider
    Traefik,
    /// etcdctl commands that write Traefik's keys
    TraefikKv,
    Ingress,
    /// HTTPRoutes of the Gateway API
    Gateway,
    Dnsmasq,
    Coredns,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<(), Error> {
    let owner = arguments.naming.owner(global)?;
    let clusters = Clusters::connect(global).await?;
    let (_, table) = super::table(&clusters, arguments.all_namespaces).await?;
    let addresses = match (&clusters, arguments.format) {
        (Clusters::Kubernetes(cluster), RouteFormat::Ingress) if !cluster.has_endpoint_slices().await? => {
            Addresses::Endpoints
        }
        _ => Addresses::EndpointSlices,
    };
    report::print(&text(&table.routes, arguments, addresses, &owner)?)
}

fn text(table: &[Route], arguments: &Arguments, addresses: Addresses, owner: &OwnerName) -> Result<String, Error> {
    let router = || {
        arguments.router_address.ok_or_else(|| Error::Usage {
            message: "DNS formats require the address of the router".into(),
            help: "pass --router-address IP".into(),
        })
    };
    let NamingArguments { etcd_root, listen, .. } = &arguments.naming;
    Ok(match arguments.format {
        RouteFormat::Json => report::json(&table),
        RouteFormat::Vulcand => vulcand::commands(table, etcd_root, owner, *listen),
        RouteFormat::Nginx => nginx::config(table, *listen),
        RouteFormat::Traefik => report::yaml([&traefik::file(table)]),
        RouteFormat::TraefikKv => vulcand::etcdctl(&traefik::keys(table)),
        RouteFormat::Ingress => report::yaml(&ingress::objects(table, addresses, arguments.ingress_class.as_deref())),
        RouteFormat::Gateway => report::yaml(&gateway::objects(table, &arguments.gateway)),
        RouteFormat::Dnsmasq => dnsmasq::config(&arguments.answered(table), router()?),
        RouteFormat::Coredns => coredns::config(&arguments.answered(table), router()?),
    })
}

impl Arguments {
    /// The domains to answer for. A tenant can set any UI domain, including another's.
    fn answered(&self, table: &[Route]) -> Vec<String> {
        let named = domains(table);
        let answered = match (&self.domain[..], self.all_namespaces) {
            ([], false) => return named,
            ([], true) => vec![UiDomain::default().to_string()],
            (wanted, _) => wanted.iter().map(ToString::to_string).collect(),
        };
        for other in named.iter().filter(|name| !answered.contains(name)) {
            tracing::warn!("a cluster has the UI domain {other}, which is omitted: --domain {other} includes it");
        }
        answered
    }
}
