//! `sparkha scale`.

use std::time::Duration;

use clap::Args;

use crate::commands::arguments::{Global, Output};
use crate::lifecycle::Error;
use crate::lifecycle::local::scale as local;
use crate::lifecycle::place::Place;
use crate::lifecycle::scale::{Options, scale};
use crate::report::exit_code::ExitCode;
use crate::report::progress::Progress;
use crate::report::{self, Format};
use crate::spec::resolve::MAX_WORKERS;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha scale --workers 8 --namespace data
  sparkha scale etl --workers 2                   those too many hand over and go
  sparkha scale --workers 0 --no-wait
  sparkha scale --workers 3 --local

Workers with the highest numbers go first. Each is decommissioned: it gets nothing new, its executors finish their tasks and
move shuffle files and cached blocks to the others, for as long as workers.drainSeconds of the cluster file allows (5 minutes
if it says nothing). A run that is cut off stops none of this.

The next `sparkha create` without -f keeps this number; one with -f makes it what the file says.")]
pub struct Arguments {
    /// Name of the cluster [default: spark]
    name: Option<String>,
    /// Number of workers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_WORKERS)))]
    workers: u32,
    /// How long to wait until all workers are registered, and those too many gone
    #[arg(long, default_value = "6m", value_parser = super::duration)]
    timeout: Duration,
    /// Return as soon as the number is written
    #[arg(long)]
    no_wait: bool,
    /// Take the number from another field manager
    #[arg(long)]
    force_conflicts: bool,
    #[command(flatten)]
    output: Output,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let place = super::named_cluster(global, arguments.name.as_deref()).await?;
    let progress = Progress::new(global.quiet);
    let options = Options {
        workers: arguments.workers,
        timeout: arguments.timeout,
        wait: !arguments.no_wait,
        force_conflicts: arguments.force_conflicts,
    };
    let next = "run the same command again to go on; workers that were asked to leave do so all the same".to_owned();
    let state = match &place {
        Place::Local(dir) => super::unless_interrupted(local::scale(dir, &options, &progress), next).await?,
        Place::Kubernetes(cluster, name) => {
            super::unless_interrupted(scale(cluster, name, &options, &progress), next).await?
        }
    };
    drop(progress);
    let format = arguments.output.output;
    match state {
        Some(state) => report::print(&report::status::cluster(&state, format))?,
        None if format == Format::Name => report::print(&format!("{}\n", place.name()))?,
        None => {}
    }
    Ok(ExitCode::Success)
}
