//! `sparkha logs`.

use std::time::Duration;

use clap::Args;

use super::{duration, named_cluster};
use crate::commands::arguments::Global;
use crate::lifecycle::Error;
use crate::lifecycle::place::Place;
use crate::logs::selection::{Line, Wanted};
use crate::logs::{Files, Options, Pods};
use crate::report::exit_code::ExitCode;
use crate::report::logs::{Printer, is_unread};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha logs                                 all pods of the cluster spark, by time
  sparkha logs etl masters --follow            those of etl's masters, also of pods that come later
  sparkha logs spark-worker-0 --previous       what a pod wrote before it was restarted
  sparkha logs masters --leader --since 5m
  sparkha logs app-20261121144500-0001 -f      what an application's executors write

Parts are masters, workers, zookeeper, drivers, history, connect, a pod's name, or an application's ID.")]
pub struct Arguments {
    /// Name of the cluster [default: spark], and parts of it [default: all]
    #[arg(value_name = "NAME] [PART")]
    words: Vec<String>,
    /// Go on with what is written from now on, also by pods that are restarted or new
    #[arg(short, long)]
    follow: bool,
    /// Only what is not older, like 90s, 5m or 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    since: Option<Duration>,
    /// Of each log the last lines only
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Of the container's run before the present one
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    /// Only the master that leads now
    #[arg(long)]
    leader: bool,
    /// Without the names before the lines
    #[arg(long)]
    no_prefix: bool,
}

pub async fn run(global: &Global, arguments: Arguments) -> Result<ExitCode, Error> {
    let wanted = Wanted::parse(&arguments.words);
    let place = named_cluster(global, wanted.cluster.as_deref()).await?;
    let options = Options {
        follow: arguments.follow,
        since: arguments.since,
        tail: arguments.tail,
        previous: arguments.previous,
        leader: arguments.leader,
    };
    let mut printer = Printer::new(!arguments.no_prefix);
    let mut write = |line: &Line| printer.print(line);
    let outcome = match place {
        Place::Local(dir) => {
            let files = Files { dir, wanted, options };
            files.write(&mut write).await
        }
        Place::Kubernetes(cluster, name) => {
            let pods = Pods {
                cluster,
                name,
                wanted,
                options,
            };
            pods.write(&mut write).await
        }
    };
    match outcome {
        Err(error) if is_unread(&error) => Ok(ExitCode::Success),
        outcome => outcome.map(|()| ExitCode::Success),
    }
}
