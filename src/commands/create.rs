//! `sparkha create`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::sync::oneshot;

use super::spec::SpecArguments;
use crate::commands::arguments::{Global, Output};
use crate::lifecycle::create::{Options, Outcome, Running};
use crate::lifecycle::differences::{Differences, Origin};
use crate::lifecycle::place::Place;
use crate::lifecycle::{Error, prepared};
use crate::report::exit_code::ExitCode;
use crate::report::progress::Progress;
use crate::report::{self, Format};
use crate::spec::ConnectToken;
use crate::spec::names::ClusterName;

const HELP: &str =
    "pass --yes to change it, --dry-run to see every object; without -f, create keeps what was asked for before";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha create --namespace data
  sparkha create etl -f sparkha.yaml --workers 8
  sparkha create --masters 1 --workers 1          no high availability, no ZooKeeper
  sparkha create --zookeeper zk-0:2181,zk-1:2181/spark
  sparkha create --dry-run                        what would be written
  sparkha create --local                          as processes on this machine
  sparkha create etl --workers 12                 a living cluster keeps all but the number of workers

The cluster keeps what was asked for. Without -f, create starts from that and changes only what its flags name. With -f, file and flags
say everything: what they leave out goes back to its default.

create asks before a living cluster loses something: objects, its layout (image, masters, ZooKeeper), pods under running applications.
Without a terminal it needs --yes for that; --dry-run shows the differences.

Another version of Spark ends every application that runs, for ever and without telling its driver: so create refuses it while one does.
`sparkha upgrade` waits until none runs; --force changes the version all the same.")]
pub struct Arguments {
    #[command(flatten)]
    spec: SpecArguments,
    /// How long to wait until the cluster is in service
    #[arg(long, default_value = "5m", value_parser = super::duration)]
    timeout: Duration,
    /// Return as soon as everything is applied
    #[arg(long)]
    no_wait: bool,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Change a living cluster without asking, even if it loses something
    #[arg(short, long)]
    yes: bool,
    /// Leave everything as it is when a first create fails
    #[arg(long)]
    retain: bool,
    /// Go on whatever the checks beforehand find
    #[arg(long)]
    skip_preflight: bool,
    /// Change the version of Spark though applications run: they are lost
    #[arg(long)]
    force: bool,
    /// Take fields that belong to other field managers
    #[arg(long)]
    force_conflicts: bool,
    /// Spark for a local cluster [default: SPARK_HOME, PATH, or what `sparkha local fetch` brought]
    #[arg(long, value_name = "FOLDER")]
    spark_home: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub async fn run(global: &Global, arguments: Arguments) -> Result<ExitCode, Error> {
    super::only_local(global, "--spark-home", arguments.spark_home.is_some())?;
    let mut description = arguments.spec.describe()?;
    let place = description.find(global).await?.place;
    let progress = Progress::new(global.quiet);
    let options = arguments.options(description.origin(&place).await?);
    let spec = description.resolve(global)?;
    let connect = spec.connect.as_ref();
    if connect.is_some_and(|connect| connect.token == ConnectToken::None) {
        tracing::warn!("Spark Connect asks for no token: everybody who can reach its port can use the cluster");
    }
    let work = async {
        let home = arguments.spark_home.as_ref();
        let prepared = prepared::prepare(&place, &spec, home, &options, &progress).await?;
        agree(&place, prepared.differences(), arguments.consent(), &progress).await?;
        prepared.create(&spec, &options, &progress).await
    };
    let outcome = super::unless_interrupted(work, NEXT.into()).await?;
    drop(progress);
    if let Place::Kubernetes(cluster, _) = &place {
        tracing::info!("{} requests to the API server", cluster.requests());
    }
    report(&outcome, arguments.dry_run, arguments.output.output, place.name())
}

const NEXT: &str = "run the same command again to go on, or `sparkha teardown` to remove what is there";

/// Prints what came of it.
pub fn report(outcome: &Outcome, dry_run: bool, format: Format, name: &ClusterName) -> Result<ExitCode, Error> {
    if dry_run {
        report::print(&report::status::dry_run(&outcome.would, format))?;
    }
    match &outcome.state {
        Some(state) => report::print(&report::status::cluster(state, format))?,
        None if !dry_run && format == Format::Name => report::print(&format!("{name}\n"))?,
        None => {}
    }
    Ok(ExitCode::Success)
}

/// Whether changes are agreed to beforehand.
#[derive(Clone, Copy)]
pub struct Consent {
    pub yes: bool,
    pub dry_run: bool,
    /// What to do where nobody can be asked.
    pub help: &'static str,
}

/// Reports how a living cluster would change, and asks where it would lose something.
pub async fn agree(
    place: &Place,
    differences: &Differences,
    consent: Consent,
    progress: &Progress,
) -> Result<(), Error> {
    let lines = differences.lines();
    if lines.is_empty() {
        return Ok(());
    }
    let cluster = format!("{}/{}", place.namespace(), place.name());
    let verb = if consent.dry_run { "would change" } else { "changes" };
    if !differences.need_consent() {
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
    // On a thread of its own, so that Ctrl-C ends the waiting for an answer.
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

    fn options(&self, origin: Origin) -> Options {
        Options {
            origin,
            timeout: self.timeout,
            wait: !self.no_wait,
            dry_run: self.dry_run,
            retain: self.retain,
            skip_preflight: self.skip_preflight,
            force_conflicts: self.force_conflicts,
            running: if self.force { Running::Lost } else { Running::Stay },
        }
    }
}
