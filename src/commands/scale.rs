//! `sparkha scale`.

use std::time::Duration;

use clap::Args;

use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::heading;
use crate::console::progress::Progress;
use crate::lifecycle::Error;
use crate::lifecycle::scale::{ScaleOptions, scale};
use crate::report::{self, Format};

/// Change the number of workers; removed workers are decommissioned first
///
/// The workers with the highest numbers are removed. Each is decommissioned: it gets no new executors, its executors finish their tasks and move
/// shuffle files and cached blocks to other executors. workers.drainSeconds of the cluster file limits the time for this (5 minutes by default).
/// Decommissioning continues even if scale is interrupted.
///
/// A later `sparkha create` without -f keeps this number; one with -f sets the number in the file.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha scale --workers 8 --namespace data
  sparkha scale etl --workers 2
  sparkha scale --workers 0 --no-wait
  sparkha scale --workers 3 --local")]
pub struct Arguments {
    /// Name of the cluster [default: spark]
    name: Option<String>,
    /// Number of workers
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::worker_count(), help_heading = heading::WORKERS)]
    workers: u32,
    /// Take over the number from another field manager
    #[arg(long, help_heading = heading::CHANGES)]
    force_conflicts: bool,
    /// How long to wait until new workers are registered and removed ones are gone
    #[arg(long, default_value = "6m", value_parser = super::duration, value_name = "TIME", help_heading = heading::WAITING)]
    timeout: Duration,
    /// Return as soon as the number is written
    #[arg(long, help_heading = heading::WAITING)]
    no_wait: bool,
    #[command(flatten)]
    output: OutputArguments,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<(), Error> {
    let platform = super::named_cluster(global, arguments.name.as_deref()).await?;
    let progress = Progress::new(global.quiet);
    let options = ScaleOptions {
        workers: arguments.workers,
        timeout: arguments.timeout,
        wait: !arguments.no_wait,
        force_conflicts: arguments.force_conflicts,
    };
    let next = "run the same command again to continue; decommissioning continues anyway";
    let work = scale(platform.as_ref(), &options, &progress);
    let state = super::unless_interrupted(work, next).await?;
    drop(progress);
    let format = arguments.output.output;
    match state {
        Some(state) => report::print(&report::status::cluster(&state, format)),
        None if format == Format::Name => report::print(&format!("{}\n", platform.name())),
        None => Ok(()),
    }
}
