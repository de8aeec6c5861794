//! `sparkha logs`.

use std::time::Duration;

use clap::Args;

use super::{duration, named_cluster};
use crate::commands::arguments::Global;
use crate::commands::heading;
use crate::lifecycle::Error;
use crate::logs::selection::{LogLine, LogSelection};
use crate::logs::{LogOptions, write_logs};
use crate::report::logs::{Printer, is_unread};

/// Show or follow the logs of masters, workers, ZooKeeper servers, drivers and executors
///
/// A part is masters, workers, zookeeper, drivers, history, connect, the name of a pod, or the ID of an application.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha logs                                 all pods of the cluster spark, by time
  sparkha logs etl masters --follow            the masters of etl, also restarted ones
  sparkha logs spark-worker-0 --previous       the run before the last restart
  sparkha logs masters --leader --since 5m
  sparkha logs app-20261121144500-0001 -f      the executors of an application")]
pub struct Arguments {
    /// Name of the cluster [default: spark], and parts of it [default: all]
    #[arg(value_name = "NAME] [PART")]
    words: Vec<String>,
    /// Follow the logs, including those of restarted and new pods
    #[arg(short, long, help_heading = heading::SELECTION)]
    follow: bool,
    /// Show only lines newer than this, such as 90s, 5m or 1h
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = heading::SELECTION)]
    since: Option<Duration>,
    /// Show only the last N lines of each log
    #[arg(long, value_name = "N", help_heading = heading::SELECTION)]
    tail: Option<usize>,
    /// Show the logs of the containers before their last restart
    #[arg(short, long, conflicts_with = "follow", help_heading = heading::SELECTION)]
    previous: bool,
    /// Show only the leading master
    #[arg(long, help_heading = heading::SELECTION)]
    leader: bool,
    /// Print lines without the pod's name in front
    #[arg(long, help_heading = heading::OUTPUT)]
    no_prefix: bool,
}

pub async fn run(global: &Global, arguments: Arguments) -> Result<(), Error> {
    let selection = LogSelection::parse(&arguments.words);
    let platform = named_cluster(global, selection.cluster.as_deref()).await?;
    let options = LogOptions {
        follow: arguments.follow,
        since: arguments.since,
        tail: arguments.tail,
        previous: arguments.previous,
        leader: arguments.leader,
    };
    let mut printer = Printer::new(!arguments.no_prefix);
    let mut write = |line: &LogLine| printer.print(line);
    let outcome = write_logs(platform.as_ref(), selection, options, &mut write).await;
    match outcome {
        Err(error) if is_unread(&error) => Ok(()),
        outcome => outcome,
    }
}
