//! `sparkha status`.

use std::time::Duration;

use clap::Args;

use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::heading;
use crate::lifecycle::Error;
use crate::lifecycle::status::status;
use crate::model::error_chain::with_sources;
use crate::platform::{self, Platform};
use crate::report::exit_code::ExitCode;
use crate::report::live::LiveView;
use crate::report::{self, Format};

/// Interval of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Show masters, ZooKeeper servers, workers and applications
///
/// Exit code 0 means that the cluster is in service, 9 that something is missing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha status --namespace data
  sparkha status etl -o json | jq .workers.registered
  sparkha status --watch")]
pub struct Arguments {
    /// Name of the cluster [default: spark]
    name: Option<String>,
    /// Keep watching: a live view on a terminal, a line for each change elsewhere
    #[arg(short, long, help_heading = heading::OUTPUT)]
    watch: bool,
    #[command(flatten)]
    output: OutputArguments,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let platform = super::named_cluster(global, arguments.name.as_deref()).await?;
    let platform = platform.as_ref();
    let format = arguments.output.output;
    if !arguments.watch {
        let state = status(platform).await?;
        report::print(&report::status::cluster(&state, format))?;
        return Ok(if state.ready {
            ExitCode::Success
        } else {
            ExitCode::NotReady
        });
    }
    let interrupted = super::interruption()?;
    tokio::select! {
        ended = watch(platform, format) => ended,
        () = interrupted => Ok(ExitCode::Success),
    }
}

/// Watches until the cluster is gone.
async fn watch(platform: &dyn Platform, format: Format) -> Result<ExitCode, Error> {
    let mut state = status(platform).await?;
    let mut live = LiveView::new(format)?;
    loop {
        live.show(state)?;
        state = loop {
            tokio::time::sleep(INTERVAL).await;
            match status(platform).await {
                Ok(state) => break state,
                Err(Error::Platform(platform::Error::Kubernetes(error))) => live.unreachable(with_sources(&error))?,
                Err(error) => return Err(error),
            }
        };
    }
}
