//! `sparkha jobs`.

use clap::Args;

use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::heading;
use crate::console::progress::Progress;
use crate::jobs::{JobState, end, jobs};
use crate::lifecycle::Error;
use crate::lifecycle::inventory::existing;
use crate::render::inventory::Inventory;
use crate::report;

/// List jobs, or end one
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha jobs --namespace data
  sparkha jobs etl -o json | jq '.[] | select(.state == \"RUNNING\") | .id'
  sparkha jobs --kill app-20261121105049-0001
  sparkha jobs --kill spark-driver-0dd82d94")]
pub struct Arguments {
    /// Name of the cluster [default: spark]
    name: Option<String>,
    /// End a job, by its ID or its driver
    #[arg(long, value_name = "ID|DRIVER", help_heading = heading::CHANGES)]
    kill: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<(), Error> {
    let platform = super::named_cluster(global, arguments.name.as_deref()).await?;
    match &arguments.kill {
        Some(wanted) => {
            let driver = end(platform.as_ref(), wanted).await?;
            Progress::new(global.quiet).done(&format!("Driver {driver} ended"));
        }
        None => {
            let jobs = jobs(platform.as_ref()).await?;
            report::print(&report::jobs::jobs(&jobs, arguments.output.output))?;
            let progress = Progress::new(global.quiet);
            for orphan in jobs.iter().filter_map(JobState::orphan) {
                progress.warn(&orphan.warning());
            }
            let inventory = existing(platform.as_ref()).await?;
            if let Some(successor) = inventory.as_ref().and_then(Inventory::successor) {
                progress.warn(&format!(
                    "New jobs run on {successor}: `sparkha jobs {successor}` shows them"
                ));
            }
        }
    }
    Ok(())
}
