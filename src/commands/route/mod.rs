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
use crate::report::{self, Format};
use crate::routes::publish::{OnConflict, RoutePublisher};
use crate::routes::{local_routes, routes};
use crate::routing::vulcand::Scope;
use crate::routing::vulcand::diff::Changes;
use crate::routing::{Route, Table};

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

/// Makes the routes in Vulcand these, or with --dry-run only plans it. Prints the changes.
async fn publish(
    mut target: RoutePublisher,
    routes: &[Route],
    scope: &Scope,
    dry_run: bool,
    format: Format,
) -> Result<(), Error> {
    let changes = match dry_run {
        true => Changes::from(&target.plan(routes, scope).await?),
        false => target.reconcile(routes, scope, OnConflict::Refuse).await?,
    };
    report::print(&report::routes::changes(&changes, dry_run, format))
}

/// The namespace or all namespaces, and the routes there.
async fn table(clusters: &Clusters, all_namespaces: bool) -> Result<(Scope, Arc<Table>), Error> {
    let table = match clusters {
        Clusters::Kubernetes(cluster) => routes(cluster, all_namespaces).await?,
        Clusters::Local(namespace) => {
            local_routes(Store::open()?, (!all_namespaces).then(|| namespace.clone())).await?
        }
    };
    Ok((target::scope(clusters.namespace(), all_namespaces), table))
}
