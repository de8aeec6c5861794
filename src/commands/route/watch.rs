//! `sparkha route watch`.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::apply::ttl;
use super::target::{TargetArguments, scope};
use crate::commands::arguments::Global;
use crate::commands::router::{TransportArgument, follow};
use crate::commands::{Clusters, deploy, heading, interruption};
use crate::console::progress::Progress;
use crate::lifecycle::Error;
use crate::router::metrics;
use crate::routes::watch::{WatchStatistics, watch_routes};

/// Keep the routes in Vulcand up to date
///
/// watch writes differences only, and survives interruptions of the API server and of etcd. Its routes outlive it by --ttl, so that another watch
/// can take over without a gap. It never changes routes of other owners; a web UI with which one of them conflicts is left out.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  sparkha route watch --etcd etcd.example:2379 --namespace data
  sparkha route watch -A --etcd a:2379,b:2379 --metrics 127.0.0.1:9090
  sparkha route watch --etcd etcd.infra:2379 --namespace data --deploy --image registry.example/sparkha:0.1")]
pub struct Arguments {
    /// Write the routes of all namespaces
    #[arg(short = 'A', long, help_heading = heading::SELECTION)]
    all_namespaces: bool,
    /// How to connect to the masters
    #[arg(long, value_enum, default_value_t, help_heading = heading::SELECTION)]
    reach: TransportArgument,
    #[command(flatten)]
    target: TargetArguments,
    /// How long routes outlive their writer, such as 60s or 5m
    #[arg(long, value_name = "TIME", value_parser = ttl, default_value = "60s", help_heading = heading::CHANGES)]
    ttl: Duration,
    #[command(flatten)]
    monitoring: metrics::MonitoringAddress,
    #[command(flatten)]
    deploy: deploy::DeployArguments,
}

pub async fn run(global: &Global, arguments: Arguments) -> Result<(), Error> {
    if arguments.deploy.is_requested() {
        let command = deploy::DeployedCommand {
            name: "sparkha-route-watch",
            words: &["route", "watch"],
            own: Arguments::augment_args,
            all_namespaces: arguments.all_namespaces,
            router: None,
        };
        return deploy::run(global, &arguments.deploy, command).await;
    }
    let interrupted = interruption()?;
    let target = arguments.target.target(global, Some(arguments.ttl))?;
    let clusters = Clusters::connect(global).await?;
    let scope = scope(clusters.namespace(), arguments.all_namespaces);
    let progress = Progress::new(global.quiet);
    let statistics = Arc::new(WatchStatistics::default());
    let monitoring = arguments.monitoring.bind().await;
    let monitoring = monitoring.map_err(|(address, source)| Error::Listen { address, source })?;
    let (follow, _way) = follow(global, &clusters, arguments.all_namespaces, arguments.reach).await?;
    progress.done("Watching; Ctrl-C ends it");
    tokio::select! {
        outcome = watch_routes(follow.published(), target, &scope, &statistics, &progress) => outcome?,
        () = metrics::serve(monitoring, statistics.clone()) => {}
        () = interrupted => {}
    }
    Ok(())
}
