//! `sparkha list`.

use clap::Args;

use crate::cli::{Global, Output};
use crate::exit_code::ExitCode;
use crate::report;
use crate::steps::Error;
use crate::steps::status::list;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha list --namespace data
  sparkha list -A -o name")]
pub struct Arguments {
    /// Clusters of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    output: Output,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let cluster = super::connected(global).await?;
    let states = list(&cluster, arguments.all_namespaces).await?;
    report::print(&report::status::clusters(&states, arguments.output.output))?;
    Ok(ExitCode::Success)
}
