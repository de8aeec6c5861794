//! `sparkha upgrade`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::create::{Consent, agree, report};
use super::spec::{Description, SpecArguments};
use crate::cli::{Global, Output};
use crate::exit_code::ExitCode;
use crate::platform::local::store::Store;
use crate::render::inventory::UpgradePhase;
use crate::report::progress::Progress;
use crate::steps::Error;
use crate::steps::create::{Options, Running, create, kept_cluster_file, prepare};
use crate::steps::differences::Origin;
use crate::steps::local::create as local;
use crate::steps::upgrade::{NEXT, Place, abort, drain};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha upgrade --image docker.io/apache/spark:4.3.0 --namespace data
  sparkha upgrade etl -f sparkha.yaml --drain-timeout 8h  what the file says, once nothing runs any more
  sparkha upgrade --abort                               stop waiting; the version stays
  sparkha local fetch 4.3.0 && sparkha upgrade --image spark:4.3.0 --local

Two versions of Spark cannot share applications: what runs when masters and workers change is lost. So upgrade closes the cluster to
`sparkha submit`, waits until no application and no driver of submit runs, and then replaces ZooKeeper servers, masters, workers, and at the end
history and Connect server. The arguments are those of create; they may change more than the version.

It cannot close the cluster to jobs that come in other ways: a spark-submit or notebook of your own that connects meanwhile is waited for, too. Spark
Connect is not waited for: its clients lose their sessions when it starts again.

A run that was cut off or timed out leaves the cluster closed; the same command goes on, and --abort opens the cluster again as long as nothing has
changed. Later there is nothing left to lose: upgrade with the old image changes everything back.")]
pub struct Arguments {
    #[command(flatten)]
    spec: SpecArguments,
    /// Wait until no application runs (the default)
    #[arg(long)]
    drain: bool,
    /// Open the cluster to jobs again, if it is still waiting
    #[arg(long, conflicts_with_all = ["drain", "file", "image"])]
    abort: bool,
    /// How long applications may go on running
    #[arg(long, default_value = "1h", value_parser = super::duration)]
    drain_timeout: Duration,
    /// How long each stage of the change may take, and the cluster to be in service at the end
    #[arg(long, default_value = "10m", value_parser = super::duration)]
    timeout: Duration,
    /// Do not ask, even if the cluster loses something besides
    #[arg(short, long)]
    yes: bool,
    /// Go on whatever the checks beforehand find
    #[arg(long)]
    skip_preflight: bool,
    /// Take fields that belong to other field managers
    #[arg(long)]
    force_conflicts: bool,
    /// Spark for a local cluster [default: SPARK_HOME, PATH, or what `sparkha local fetch` brought]
    #[arg(long, value_name = "FOLDER")]
    spark_home: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

const HELP: &str = "pass --yes to change it; `sparkha create --dry-run`, with the same arguments, shows every object";

pub async fn run(global: &Global, arguments: Arguments) -> Result<ExitCode, Error> {
    super::only_local(global, "--spark-home", arguments.spark_home.is_some())?;
    let mut description = arguments.spec.describe()?;
    if global.local {
        return run_local(global, &arguments, description).await;
    }
    let (cluster, spec) = description.resolve_connected(global).await?;
    let progress = Progress::new(global.quiet);
    if arguments.abort {
        return aborted(&Place::Kubernetes(&cluster, &spec.name), &progress).await;
    }
    let has_file = description.has_file();
    let (name, namespace) = (spec.name, cluster.namespace());
    let place = Place::Kubernetes(&cluster, &name);
    let mut prepared = async || {
        let origin = match has_file {
            true => Origin::File,
            false => Origin::Inventory(kept_cluster_file(&cluster, &name).await?),
        };
        let spec = description.resolve_from(&origin, &name, namespace, global)?;
        let options = arguments.options(origin);
        let prepared = prepare(&cluster, &spec, &options, &progress).await?;
        Ok::<_, Error>((spec, options, prepared))
    };
    let work = async {
        place.inventory().await?;
        let (mut spec, mut options, mut first) = prepared().await?;
        let title = format!("{namespace}/{name}");
        agree(&title, &first.differences, arguments.consent(), &progress).await?;
        if let Some(change) = &first.change {
            drain(
                &place,
                change.upgrade(UpgradePhase::Draining),
                arguments.drain_timeout,
                &progress,
            )
            .await?;
            // Everything may have changed meanwhile.
            (spec, options, first) = prepared().await?;
        }
        create(&cluster, &spec, first, &options, &progress).await
    };
    let outcome = super::unless_interrupted(work, NEXT.into()).await?;
    drop(progress);
    report(&outcome, false, arguments.output.output, &name)
}

/// The same on this machine.
async fn run_local(
    global: &Global,
    arguments: &Arguments,
    mut description: Description<'_>,
) -> Result<ExitCode, Error> {
    let (dir, spec) = description.resolve_local(global)?;
    let progress = Progress::new(global.quiet);
    let place = Place::Local(&dir);
    if arguments.abort {
        return aborted(&place, &progress).await;
    }
    let has_file = description.has_file();
    let (name, namespace, store) = (spec.name, &dir.namespace, Store::open()?);
    let home = arguments.spark_home.as_ref();
    let mut prepared = async || {
        let origin = match has_file {
            true => Origin::File,
            false => Origin::Inventory(local::kept_cluster_file(&dir)?),
        };
        let spec = description.resolve_from(&origin, &name, namespace, global)?;
        let options = arguments.options(origin);
        let prepared = local::prepare(&store, namespace, &spec, home, &options, &progress).await?;
        Ok::<_, Error>((spec, options, prepared))
    };
    let work = async {
        place.inventory().await?;
        let (mut spec, mut options, mut first) = prepared().await?;
        let title = format!("{namespace}/{name}");
        agree(&title, &first.differences, arguments.consent(), &progress).await?;
        if let Some(upgrade) = first
            .change
            .as_ref()
            .map(|change| change.upgrade(UpgradePhase::Draining))
        {
            // With it goes the lock: others may scale the cluster while it drains.
            drop(first);
            drain(&place, upgrade, arguments.drain_timeout, &progress).await?;
            (spec, options, first) = prepared().await?;
        }
        local::create(&store, &spec, first, &options, &progress).await
    };
    let outcome = super::unless_interrupted(work, NEXT.into()).await?;
    drop(progress);
    report(&outcome, false, arguments.output.output, &name)
}

async fn aborted(place: &Place<'_>, progress: &Progress) -> Result<ExitCode, Error> {
    abort(place, progress).await?;
    Ok(ExitCode::Success)
}

impl Arguments {
    fn options(&self, origin: Origin) -> Options {
        Options {
            origin,
            timeout: self.timeout,
            wait: true,
            dry_run: false,
            retain: true,
            skip_preflight: self.skip_preflight,
            force_conflicts: self.force_conflicts,
            running: Running::Drained,
        }
    }

    fn consent(&self) -> Consent {
        Consent {
            yes: self.yes,
            dry_run: false,
            help: HELP,
        }
    }
}
