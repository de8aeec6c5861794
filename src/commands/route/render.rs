//! `sparkha route render`.

use std::net::IpAddr;

use clap::{Args, ValueEnum};

use super::target::Naming;
use crate::commands::Clusters;
use crate::commands::arguments::Global;
use crate::lifecycle::Error;
use crate::report;
use crate::report::exit_code::ExitCode;
use crate::routing::{Route, coredns, dnsmasq, domains, gateway, ingress, nginx, traefik, vulcand};
use crate::spec::names::{OwnerName, UiDomain};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha route render --format nginx --namespace data >/etc/nginx/conf.d/spark.conf
  sparkha route render --format dnsmasq --router-address 192.0.2.1
  sparkha route render -A --format coredns --router-address 192.0.2.1 --domain ui.example.com
  sparkha route render --format vulcand -A | sh
  sparkha route render --format json --local")]
pub struct Arguments {
    /// Clusters of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// The format
    #[arg(long, value_enum)]
    format: Format,
    #[command(flatten)]
    naming: Naming,
    /// Address of the router, for the DNS formats
    #[arg(long, value_name = "IP")]
    router_address: Option<IpAddr>,
    /// UI domain to answer for, for the DNS formats; may be repeated. Without it all that clusters name, with -A only k8s
    #[arg(long, value_name = "NAME", value_parser = UiDomain::parse)]
    domain: Vec<UiDomain>,
    /// Name of the Gateway, for HTTPRoutes
    #[arg(long, value_name = "NAME", default_value = "sparkha")]
    gateway: String,
    /// Ingress class; the cluster's default if left out
    #[arg(long, value_name = "NAME")]
    ingress_class: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The table itself
    Json,
    /// etcdctl commands with Vulcand's keys
    Vulcand,
    Nginx,
    /// For Traefik's file provider
    Traefik,
    /// etcdctl commands with Traefik's keys
    TraefikKv,
    Ingress,
    /// Gateway API's HTTPRoutes
    Gateway,
    Dnsmasq,
    Coredns,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let owner = arguments.naming.owner(global)?;
    let table = super::table(&Clusters::connect(global).await?, arguments.all_namespaces).await?;
    report::print(&text(&table.routes, arguments, &owner)?)?;
    Ok(ExitCode::Success)
}

fn text(table: &[Route], arguments: &Arguments, owner: &OwnerName) -> Result<String, Error> {
    let router = || {
        arguments.router_address.ok_or_else(|| Error::Usage {
            message: "a DNS format needs the address of the router".into(),
            help: "pass --router-address IP".into(),
        })
    };
    let Naming { etcd_root, listen, .. } = &arguments.naming;
    Ok(match arguments.format {
        Format::Json => report::json(&table),
        Format::Vulcand => vulcand::commands(table, etcd_root, owner, *listen),
        Format::Nginx => nginx::config(table, *listen),
        Format::Traefik => report::yaml([&traefik::file(table)]),
        Format::TraefikKv => vulcand::etcdctl(&traefik::keys(table)),
        Format::Ingress => report::yaml(&ingress::objects(table, arguments.ingress_class.as_deref())),
        Format::Gateway => report::yaml(&gateway::objects(table, &arguments.gateway)),
        Format::Dnsmasq => dnsmasq::config(&arguments.answered(table), router()?),
        Format::Coredns => coredns::config(&arguments.answered(table), router()?),
    })
}

impl Arguments {
    /// The domains to answer for. A tenant can name any domain as its cluster's, also somebody else's.
    fn answered(&self, table: &[Route]) -> Vec<String> {
        let named = domains(table);
        let answered = match (&self.domain[..], self.all_namespaces) {
            ([], false) => return named,
            ([], true) => vec![UiDomain::default().into()],
            (wanted, _) => wanted.iter().map(ToString::to_string).collect(),
        };
        for other in named.iter().filter(|name| !answered.contains(name)) {
            tracing::warn!(
                "a cluster has {other} as its UI domain, which is left out: --domain {other} answers for it"
            );
        }
        answered
    }
}
