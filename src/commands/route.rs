//! `sparkha route`.

use std::net::IpAddr;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::Global;
use crate::exit_code::ExitCode;
use crate::platform::kubernetes::Cluster;
use crate::platform::local::store::Store;
use crate::report;
use crate::routing::{Route, Table, coredns, dnsmasq, domains, gateway, ingress, nginx, traefik, vulcand};
use crate::steps::Error;
use crate::steps::routes::{local_routes, routes};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the routes to the web UIs, in the words of a router or DNS server
    #[command(after_help = "Examples:
  sparkha route render --format nginx --namespace data >/etc/nginx/conf.d/spark.conf
  sparkha route render --format dnsmasq --router-address 192.0.2.1
  sparkha route render --format vulcand -A | sh
  sparkha route render --format json --local")]
    Render(RenderArguments),
}

#[derive(Debug, Args)]
pub struct RenderArguments {
    /// Clusters of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// The format
    #[arg(long, value_enum)]
    format: Format,
    /// Root of Vulcand's keys in etcd
    #[arg(long, value_name = "KEY", default_value = "/vulcand")]
    etcd_root: String,
    /// Address at which the router listens, for nginx and Vulcand
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    listen: IpAddr,
    /// Address of the router, for the DNS formats
    #[arg(long, value_name = "IP")]
    router_address: Option<IpAddr>,
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

pub async fn run(global: &Global, command: Command) -> Result<ExitCode, Error> {
    let Command::Render(arguments) = command;
    let table = table(global, arguments.all_namespaces).await?;
    report::print(&text(&table.routes, &arguments)?)?;
    Ok(ExitCode::Success)
}

async fn table(global: &Global, all_namespaces: bool) -> Result<Arc<Table>, Error> {
    if global.local {
        let namespace = super::local_namespace(global.namespace.as_deref())?;
        return local_routes(Store::open()?, (!all_namespaces).then_some(namespace)).await;
    }
    let cluster: Cluster = super::connected(global).await?;
    routes(&cluster, all_namespaces).await
}

fn text(table: &[Route], arguments: &RenderArguments) -> Result<String, Error> {
    let router = || {
        arguments.router_address.ok_or_else(|| Error::Usage {
            message: "a DNS format needs the address of the router".into(),
            help: "pass --router-address IP".into(),
        })
    };
    Ok(match arguments.format {
        Format::Json => report::json(&table),
        Format::Vulcand => vulcand::commands(table, &arguments.etcd_root, arguments.listen),
        Format::Nginx => nginx::config(table, arguments.listen),
        Format::Traefik => report::yaml([&traefik::file(table)]),
        Format::TraefikKv => vulcand::etcdctl(&traefik::keys(table)),
        Format::Ingress => report::yaml(&ingress::objects(table, arguments.ingress_class.as_deref())),
        Format::Gateway => report::yaml(&gateway::objects(table, &arguments.gateway)),
        Format::Dnsmasq => dnsmasq::config(&domains(table), router()?),
        Format::Coredns => coredns::config(&domains(table), router()?),
    })
}
