//! `sparkha rotate-secret`.

use std::time::Duration;

use clap::Args;

use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::heading;
use crate::console::progress::Progress;
use crate::lifecycle::Error;
use crate::lifecycle::rotate::rotate;
use crate::report;

/// Replace the cluster's secret, and restart all pods that use it
///
/// All masters and workers restart at once. Running applications are lost, and drivers with the old secret are refused.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha rotate-secret --namespace data
  sparkha rotate-secret etl --yes              without confirmation")]
pub struct Arguments {
    /// Name of the cluster [default: spark]
    name: Option<String>,
    /// Rotate without confirmation
    #[arg(short, long, help_heading = heading::CHANGES)]
    yes: bool,
    /// How long to wait until the cluster is in service again
    #[arg(long, default_value = "5m", value_parser = super::duration, value_name = "TIME", help_heading = heading::WAITING)]
    timeout: Duration,
    #[command(flatten)]
    output: OutputArguments,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<(), Error> {
    let platform = super::named_cluster(global, arguments.name.as_deref()).await?;
    if !arguments.yes {
        super::confirm(
            "all masters and workers restart, and running applications are lost",
            "Rotate its secret?",
            "pass --yes to rotate without confirmation",
        )?;
    }
    let progress = Progress::new(global.quiet);
    let work = rotate(platform.as_ref(), arguments.timeout, &progress);
    let next = "run the same command again: it generates another secret, and restarts all pods";
    let state = super::unless_interrupted(work, next).await?;
    drop(progress);
    report::print(&report::status::cluster(&state, arguments.output.output))
}
