//! `sparkha list`.

use clap::Args;
use jiff::Timestamp;

use crate::commands::arguments::{Global, Output};
use crate::lifecycle::status::list;
use crate::lifecycle::{Error, local};
use crate::platform::local::store::Store;
use crate::report;
use crate::report::exit_code::ExitCode;

#[derive(Debug, Args)]
#[command(
    after_help = "On Kubernetes the numbers are of pods that are ready: whether a cluster is in service, `sparkha status` asks its masters and ZooKeepers.
With --local they are asked here, too.

Examples:
  sparkha list --namespace data
  sparkha list -A -o name"
)]
pub struct Arguments {
    /// Clusters of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    output: Output,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let overviews = if global.local {
        let namespace = super::local_namespace(global.namespace.as_deref())?;
        let namespace = (!arguments.all_namespaces).then_some(&namespace);
        local::list(&Store::open()?, namespace).await?
    } else {
        list(&super::connected(global).await?, arguments.all_namespaces).await?
    };
    report::print(&report::status::clusters(
        &overviews,
        Timestamp::now(),
        arguments.output.output,
    ))?;
    Ok(ExitCode::Success)
}
