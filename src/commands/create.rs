//! `sparkha create`.

use std::time::Duration;

use clap::Args;
use tokio::sync::oneshot;

use super::spec::PlacedSpecArguments;
use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::heading;
use crate::console::progress::Progress;
use crate::lifecycle::create::{CreateOptions, CreateResult, RunningApplications};
use crate::lifecycle::differences::{Differences, Origin};
use crate::lifecycle::{Error, create};
use crate::platform::{Backend, Platform};
use crate::report::{self, Format};
use crate::spec::ConnectToken;
use crate::spec::names::ClusterName;

const HELP: &str =
    "pass --yes to change it, --dry-run to see every object; without -f, create keeps the previous settings";

/// Create a cluster, or change it to match
///
/// A cluster keeps the settings it was created with. Without -f, create starts from these settings and changes only what its flags name. With -f,
/// the file and the flags are the whole description: a setting that they leave out returns to its default.
///
/// create asks for confirmation before an existing cluster loses something: objects, its layout (image, masters, ZooKeeper), or pods that run
/// applications. Without a terminal it needs --yes. --dry-run prints the differences.
///
/// A change of the Spark version ends every running application without a message to its driver, so create refuses it while applications run.
/// `sparkha upgrade` waits for them; --force changes the version anyway.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  sparkha create --namespace data                 3 masters, 3 ZooKeeper servers, 2 workers
  sparkha create etl -f sparkha.yaml --workers 8  a cluster file; flags override it
  sparkha create --masters 1 --workers 1          no high availability, no ZooKeeper
  sparkha create --zookeeper zk-0:2181,zk-1:2181/spark
  sparkha create --dry-run                        print the changes only
  sparkha create --local                          processes on this machine
  sparkha create etl --workers 12                 change the workers of an existing cluster")]
pub struct Arguments {
    #[command(flatten)]
    spec: PlacedSpecArguments,
    /// Print what would change, and change nothing
    #[arg(long, help_heading = heading::CHANGES)]
    dry_run: bool,
    /// Change an existing cluster without confirmation
    ///
    /// create asks only if the cluster loses something.
    #[arg(short, long, help_heading = heading::CHANGES)]
    yes: bool,
    /// Change the Spark version even if applications run; they are lost
    #[arg(long, help_heading = heading::CHANGES)]
    force: bool,
    /// Take over fields that other field managers own
    #[arg(long, help_heading = heading::CHANGES)]
    force_conflicts: bool,
    /// Keep everything as it is if the first create fails
    #[arg(long, help_heading = heading::CHANGES)]
    retain: bool,
    /// Continue even if the preflight checks fail
    #[arg(long, help_heading = heading::CHANGES)]
    skip_preflight: bool,
    /// How long each stage may take
    ///
    /// A stage replaces the pods of one StatefulSet, or waits until the cluster is in service.
    #[arg(long, default_value = "5m", value_parser = super::duration, value_name = "TIME", help_heading = heading::WAITING)]
    timeout: Duration,
    /// Return as soon as all objects are applied
    #[arg(long, help_heading = heading::WAITING)]
    no_wait: bool,
    #[command(flatten)]
    output: OutputArguments,
}

pub async fn run(global: &Global, arguments: Arguments) -> Result<(), Error> {
    let mut description = arguments.spec.describe(global)?;
    let platform = description.find(global).await?.platform;
    let platform = platform.as_ref();
    let progress = Progress::new(global.quiet);
    let options = arguments.options(description.origin(platform).await?);
    let spec = description.resolve(global)?;
    super::spec::warn_of_secrets(&spec);
    let connect = spec.connect.as_ref();
    if connect.is_some_and(|connect| connect.token == ConnectToken::None) {
        tracing::warn!("Spark Connect requires no token: everyone who can connect to its port can use the cluster");
    }
    let work = async {
        let prepared = create::prepare(platform, spec, &options, &progress).await?;
        agree(platform, &prepared.differences, arguments.consent(), &progress).await?;
        create::create(platform, prepared, &options, &progress).await
    };
    let outcome = super::unless_interrupted(work, NEXT).await?;
    drop(progress);
    if let Backend::Kubernetes(cluster) = platform.backend() {
        tracing::info!("{} requests to the API server", cluster.requests());
    }
    report(&outcome, arguments.dry_run, arguments.output.output, platform.name())
}

const NEXT: &str = "run the same command again to continue, or `sparkha teardown` to remove what exists";

/// Prints the result.
pub fn report(outcome: &CreateResult, dry_run: bool, format: Format, name: &ClusterName) -> Result<(), Error> {
    if dry_run {
        report::print(&report::status::dry_run(&outcome.would, format))?;
    }
    match &outcome.state {
        Some(state) => report::print(&report::status::cluster(state, format)),
        None if !dry_run && format == Format::Name => report::print(&format!("{name}\n")),
        None => Ok(()),
    }
}

/// Whether changes are confirmed in advance.
#[derive(Clone, Copy)]
pub struct Consent {
    pub yes: bool,
    pub dry_run: bool,
    /// The remedy without a terminal.
    pub help: &'static str,
}

/// Reports the changes of an existing cluster, and asks for confirmation if it would lose something.
pub async fn agree(
    platform: &dyn Platform,
    differences: &Differences,
    consent: Consent,
    progress: &Progress,
) -> Result<(), Error> {
    let lines = differences.lines();
    if lines.is_empty() {
        return Ok(());
    }
    let cluster = format!("{}/{}", platform.namespace(), platform.name());
    let verb = if consent.dry_run { "would change" } else { "changes" };
    if !differences.need_confirmation() {
        progress.done(&format!("Cluster {cluster} {verb}: {}", lines.join("; ")));
        return Ok(());
    }
    let list = lines.iter().map(|line| format!("\n    - {line}")).collect::<String>();
    if consent.yes || consent.dry_run {
        progress.warn(&format!("cluster {cluster} {verb}:{list}"));
        return Ok(());
    }
    progress.clear();
    let consequence = format!("cluster {cluster} would change:{list}\n  this needs confirmation");
    // On a separate thread, so that Ctrl-C ends the wait for an answer.
    let (answer, answered) = oneshot::channel();
    std::thread::spawn(move || answer.send(super::confirm(&consequence, "Change it?", consent.help)));
    let answer = answered.await.map_err(std::io::Error::other);
    answer.map_err(Error::io("read the answer"))?
}

impl Arguments {
    fn consent(&self) -> Consent {
        Consent {
            yes: self.yes,
            dry_run: self.dry_run,
            help: HELP,
        }
    }

    fn options(&self, origin: Origin) -> CreateOptions {
        CreateOptions {
            origin,
            timeout: self.timeout,
            wait: !self.no_wait,
            dry_run: self.dry_run,
            retain: self.retain,
            skip_preflight: self.skip_preflight,
            force_conflicts: self.force_conflicts,
            running: if self.force {
                RunningApplications::Lost
            } else {
                RunningApplications::Stay
            },
            drained: None,
        }
    }
}
