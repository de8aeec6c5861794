//! `sparkha list`.

use clap::Args;
use jiff::Timestamp;

use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::heading;
use crate::lifecycle::Error;
use crate::lifecycle::status::{list, list_local};
use crate::report;

/// List clusters
///
/// On Kubernetes, list counts ready pods; `sparkha status` also asks the masters and ZooKeeper servers. With --local, list asks them, too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha list --namespace data
  sparkha list -A -o name")]
pub struct Arguments {
    /// List clusters of all namespaces
    #[arg(short = 'A', long, help_heading = heading::SELECTION)]
    all_namespaces: bool,
    #[command(flatten)]
    output: OutputArguments,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<(), Error> {
    let overviews = if global.local {
        let namespace = super::local_namespace(global.namespace.as_deref())?;
        let namespace = (!arguments.all_namespaces).then_some(&namespace);
        list_local(namespace).await?
    } else {
        list(&super::connected(global).await?, arguments.all_namespaces).await?
    };
    report::print(&report::status::clusters(
        &overviews,
        Timestamp::now(),
        arguments.output.output,
    ))
}
