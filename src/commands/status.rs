//! `sparkha status`.

use std::time::Duration;

use clap::Args;

use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::heading;
use crate::lifecycle::Error;
use crate::lifecycle::local::LocalView;
use crate::lifecycle::place::Place;
use crate::lifecycle::status::status;
use crate::model::error_chain::with_sources;
use crate::platform::kubernetes::Cluster;
use crate::platform::observer::Observer;
use crate::report::exit_code::ExitCode;
use crate::report::live::LiveView;
use crate::report::{self, Format};
use crate::spec::names::ClusterName;
use crate::state::ClusterState;

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

/// The source of the state.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum StatusSource {
    Kubernetes(Observer<Cluster>, Cluster, ClusterName),
    Local(LocalView),
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let mut source = match super::named_cluster(global, arguments.name.as_deref()).await? {
        Place::Local(dir) => StatusSource::Local(LocalView::of(&dir)),
        Place::Kubernetes(cluster, name) => StatusSource::Kubernetes(Observer::new(cluster.clone()), cluster, name),
    };
    let format = arguments.output.output;
    if !arguments.watch {
        let state = source.state().await?;
        report::print(&report::status::cluster(&state, format))?;
        return Ok(if state.ready {
            ExitCode::Success
        } else {
            ExitCode::NotReady
        });
    }
    let interrupted = super::interruption()?;
    tokio::select! {
        ended = watch(&mut source, format) => ended,
        () = interrupted => Ok(ExitCode::Success),
    }
}

/// Watches until the cluster is gone.
async fn watch(source: &mut StatusSource, format: Format) -> Result<ExitCode, Error> {
    let mut state = source.state().await?;
    let mut live = LiveView::new(format)?;
    loop {
        live.show(state)?;
        state = loop {
            tokio::time::sleep(INTERVAL).await;
            match source.state().await {
                Ok(state) => break state,
                Err(Error::Kubernetes(error)) => live.unreachable(with_sources(&error))?,
                Err(error) => return Err(error),
            }
        };
    }
}

impl StatusSource {
    async fn state(&mut self) -> Result<ClusterState, Error> {
        match self {
            StatusSource::Local(view) => view.state().await,
            StatusSource::Kubernetes(observer, cluster, name) => status(cluster, name, observer).await,
        }
    }
}
