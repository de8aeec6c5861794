//! `sparkha route`.

mod apply;
mod check;
mod remove;
mod render;
mod target;
pub mod watch;

use std::sync::Arc;

use clap::Subcommand;

use super::Clusters;
use crate::commands::arguments::Global;
use crate::lifecycle::Error;
use crate::platform::local::store::Store;
use crate::report::exit_code::ExitCode;
use crate::routes::{local_routes, routes};
use crate::routing::Table;

/// Configure another router or DNS server for the web UIs
///
/// route writes routes for a router that you run yourself: Vulcand, nginx, Traefik, an Ingress or a Gateway, and for dnsmasq and CoreDNS.
/// `sparkha router` is a router of its own, which needs no such configuration. For a browser on this machine, `sparkha ui` suffices.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  sparkha route render --format nginx --namespace data >/etc/nginx/conf.d/spark.conf
  sparkha route watch --etcd etcd.example:2379 --namespace data
  sparkha route check --namespace data")]
pub enum RouteCommand {
    Render(render::Arguments),
    Apply(apply::Arguments),
    Remove(remove::Arguments),
    Watch(watch::Arguments),
    Check(check::Arguments),
}

pub async fn run(global: &Global, command: RouteCommand) -> Result<ExitCode, Error> {
    match command {
        RouteCommand::Check(arguments) => return check::run(global, &arguments).await,
        RouteCommand::Render(arguments) => render::run(global, &arguments).await?,
        RouteCommand::Apply(arguments) => apply::run(global, &arguments).await?,
        RouteCommand::Remove(arguments) => remove::run(global, &arguments).await?,
        RouteCommand::Watch(arguments) => watch::run(global, arguments).await?,
    }
    Ok(ExitCode::Success)
}

/// The routes of the namespace, or of all namespaces.
async fn table(clusters: &Clusters, all_namespaces: bool) -> Result<Arc<Table>, Error> {
    match clusters {
        Clusters::Kubernetes(cluster) => routes(cluster, all_namespaces).await,
        Clusters::Local(namespace) => local_routes(Store::open()?, (!all_namespaces).then(|| namespace.clone())).await,
    }
}
