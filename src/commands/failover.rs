//! `sparkha failover`.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::heading;
use crate::console::progress::Progress;
use crate::drill::{DrillOptions, DrillTarget, drill};
use crate::lifecycle::Error;
use crate::report;
use crate::report::exit_code::ExitCode;

/// Run a failover drill: stop the leading master and measure the recovery
///
/// A job runs during the drill and must survive it. failover does not start if the cluster is not in service or has no capacity for the job (exit
/// code 9). Exit code 0 means that the cluster is in service again and the job continued, 6 that the cluster is not in service within --timeout,
/// 9 that the job did not continue.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha failover --namespace data            stop the leading master, after confirmation
  sparkha failover etl --yes -o json           print when each phase was reached
  sparkha failover --zookeeper --yes           stop a ZooKeeper server
  sparkha failover --local --hard --yes        kill without a grace period")]
pub struct Arguments {
    /// Name of the cluster [default: spark]
    name: Option<String>,
    /// Stop a ZooKeeper server instead of the leading master
    #[arg(long, help_heading = heading::CHANGES)]
    zookeeper: bool,
    /// Kill without a grace period
    ///
    /// On Kubernetes as `kubectl delete pod --grace-period=0 --force` does it, on this machine by SIGKILL.
    #[arg(long, help_heading = heading::CHANGES)]
    hard: bool,
    /// Run no job during the drill
    ///
    /// On Kubernetes the job needs permission to create pods and to run programs in them.
    #[arg(long, help_heading = heading::CHANGES)]
    no_canary: bool,
    /// Run the drill without confirmation
    #[arg(short, long, help_heading = heading::CHANGES)]
    yes: bool,
    /// How long to wait until the cluster is in service again
    #[arg(long, default_value = "2m", value_parser = super::duration, value_name = "TIME", help_heading = heading::WAITING)]
    timeout: Duration,
    #[command(flatten)]
    output: OutputArguments,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let platform = super::named_cluster(global, arguments.name.as_deref()).await?;
    let (target, what) = match arguments.zookeeper {
        true => (DrillTarget::ZooKeeper, "A ZooKeeper server"),
        false => (DrillTarget::Leader, "The leading master"),
    };
    let options = DrillOptions {
        target,
        hard: arguments.hard,
        probe_job: !arguments.no_canary,
        timeout: arguments.timeout,
    };
    if !arguments.yes {
        super::confirm(
            "a failover drill disrupts the cluster",
            &format!("{what} will be stopped. Continue?"),
            "pass --yes to run the drill without confirmation",
        )?;
    }
    let progress = Arc::new(Progress::new(global.quiet));
    let next = "what was stopped restarts by itself: `sparkha status --watch` shows it";
    let outcome = super::unless_interrupted(drill(&platform, &options, &progress), next).await?;
    report::print(&report::failover::outcome(&outcome, arguments.output.output))?;
    Ok(match outcome.is_whole() {
        _ if outcome.recovered => ExitCode::Success,
        true => ExitCode::NotReady,
        false => ExitCode::TimedOut,
    })
}
