//! `sparkha failover`.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::commands::arguments::{Global, Output};
use crate::drill::{Options, Target, on_kubernetes, on_this_machine};
use crate::lifecycle::Error;
use crate::lifecycle::place::Place;
use crate::report;
use crate::report::exit_code::ExitCode;
use crate::report::progress::Progress;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha failover --namespace data            takes the leading master away, after asking
  sparkha failover etl --yes -o json           tells when each phase was reached
  sparkha failover --zookeeper --yes           takes a ZooKeeper server away
  sparkha failover --local --hard --yes        kills instead of ending

A cluster that is not in service, or has no room for the job, is left alone (exit code 9). Exit code 0 means that it is in service again and the job that ran meanwhile
went on, 6 that it is not in service within --timeout, 9 that the job did not go on.")]
pub struct Arguments {
    /// Name of the cluster [default: spark]
    name: Option<String>,
    /// Take a ZooKeeper server away instead of the leading master
    #[arg(long)]
    zookeeper: bool,
    /// Give it no time: as `kubectl delete pod --grace-period=0 --force`, on this machine SIGKILL
    #[arg(long)]
    hard: bool,
    /// Run no job meanwhile; on Kubernetes one needs the right to make pods and run programs in them
    #[arg(long)]
    no_canary: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// How long the cluster may take to be in service again
    #[arg(long, default_value = "2m", value_parser = super::duration)]
    timeout: Duration,
    #[command(flatten)]
    output: Output,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let place = super::named_cluster(global, arguments.name.as_deref()).await?;
    let options = Options {
        target: if arguments.zookeeper {
            Target::ZooKeeper
        } else {
            Target::Leader
        },
        hard: arguments.hard,
        canary: !arguments.no_canary,
        timeout: arguments.timeout,
    };
    if !arguments.yes {
        let what = match options.target {
            Target::Leader => "The leading master",
            Target::ZooKeeper => "A ZooKeeper server",
        };
        super::confirm(
            "a drill disturbs the cluster",
            &format!("{what} will be taken away. Go on?"),
            "pass --yes to run the drill without being asked",
        )?;
    }
    let progress = Arc::new(Progress::new(global.quiet));
    let next = "what was taken away comes back by itself: `sparkha status --watch` shows it".to_owned();
    let outcome = match &place {
        Place::Local(dir) => super::unless_interrupted(on_this_machine(dir, &options, &progress), next).await?,
        Place::Kubernetes(cluster, name) => {
            super::unless_interrupted(on_kubernetes(cluster, name, &options, &progress), next).await?
        }
    };
    report::print(&report::failover::outcome(&outcome, arguments.output.output))?;
    Ok(match outcome.is_whole() {
        _ if outcome.recovered => ExitCode::Success,
        true => ExitCode::NotReady,
        false => ExitCode::TimedOut,
    })
}
