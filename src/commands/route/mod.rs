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

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the routes to the web UIs, in the words of a router or DNS server
    Render(render::Arguments),
    /// Write the routes to Vulcand: what is missing or changed, and no more
    Apply(apply::Arguments),
    /// Delete the routes that apply wrote; needs no Kubernetes
    Remove(remove::Arguments),
    /// Keep the routes in Vulcand current
    Watch(watch::Arguments),
    /// Check that every web UI is reached by its name, and say what is wrong
    Check(check::Arguments),
}

pub async fn run(global: &Global, command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Render(arguments) => render::run(global, &arguments).await,
        Command::Apply(arguments) => apply::run(global, &arguments).await,
        Command::Remove(arguments) => remove::run(global, &arguments).await,
        Command::Watch(arguments) => watch::run(global, arguments).await,
        Command::Check(arguments) => check::run(global, &arguments).await,
    }
}

/// The routes of the namespace, or of all.
async fn table(clusters: &Clusters, all_namespaces: bool) -> Result<Arc<Table>, Error> {
    match clusters {
        Clusters::Kubernetes(cluster) => routes(cluster, all_namespaces).await,
        Clusters::Local(namespace) => local_routes(Store::open()?, (!all_namespaces).then(|| namespace.clone())).await,
    }
}
