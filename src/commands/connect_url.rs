//! `sparkha connect-url`.

use clap::Args;

use crate::commands::arguments::Global;
use crate::commands::heading;
use crate::lifecycle::Error;
use crate::lifecycle::connect_url::{Client, connect_url};
use crate::report;

/// Print the URL of a cluster's Spark Connect server, including its token
///
/// The token gives full access to the cluster. Do not share it, and do not write it to a file that others can read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha connect-url --namespace data
  kubectl port-forward --namespace data service/spark-connect 15002 &
  pyspark --remote \"$(sparkha connect-url --namespace data --forwarded)\"")]
pub struct Arguments {
    /// Name of the cluster [default: spark]
    name: Option<String>,
    /// Print the URL for a port forwarded to this machine
    #[arg(long, help_heading = heading::OUTPUT)]
    forwarded: bool,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<(), Error> {
    let platform = super::named_cluster(global, arguments.name.as_deref()).await?;
    let client = match arguments.forwarded {
        true => Client::Forwarded,
        false => Client::Inside,
    };
    let url = connect_url(platform.as_ref(), client)
        .await?
        .ok_or_else(|| Error::Usage {
            message: format!("cluster {} has no Spark Connect server", platform.name()),
            help: "`sparkha create --connect` gives it one".into(),
        })?;
    report::print(&format!("{url}\n"))
}
