//! `sparkha create`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::spec::{Description, SpecArguments};
use crate::cli::{Global, Output};
use crate::exit_code::ExitCode;
use crate::platform::local::store::Store;
use crate::report::progress::Progress;
use crate::report::{self, Format};
use crate::spec::names::ClusterName;
use crate::steps::Error;
use crate::steps::create::{Options, Outcome, create};
use crate::steps::local::create as local;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha create --namespace data
  sparkha create etl -f sparkha.yaml --workers 8
  sparkha create --masters 1 --workers 1          no high availability, no ZooKeeper
  sparkha create --zookeeper zk-0:2181,zk-1:2181/spark
  sparkha create --dry-run                        what would be written
  sparkha create --local                          as processes on this machine")]
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
    /// Leave everything as it is when a first create fails
    #[arg(long)]
    retain: bool,
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

pub async fn run(global: &Global, arguments: Arguments) -> Result<ExitCode, Error> {
    super::only_local(global, "--spark-home", arguments.spark_home.is_some())?;
    let description = arguments.spec.describe()?;
    if global.local {
        return run_local(global, &arguments, &description).await;
    }
    let (cluster, spec) = description.resolve_connected(global).await?;
    let progress = Progress::new(global.quiet);
    let namespace = cluster.namespace();
    let options = arguments.options();
    let name = &spec.name;
    let next = format!(
        "run the same command again to go on, or `sparkha teardown {name} --namespace {namespace}` to remove what is there"
    );
    let outcome = super::unless_interrupted(create(&cluster, &spec, &options, &progress), next).await?;
    drop(progress);
    tracing::info!("{} requests to the API server", cluster.requests());
    report(&outcome, &arguments, name)
}

/// The same on this machine.
async fn run_local(global: &Global, arguments: &Arguments, description: &Description<'_>) -> Result<ExitCode, Error> {
    let (dir, spec) = description.resolve_local(global)?;
    let namespace = &dir.namespace;
    let progress = Progress::new(global.quiet);
    let (store, options, name) = (Store::open()?, arguments.options(), &spec.name);
    let next = format!(
        "run the same command again to go on, or `sparkha teardown {name} --namespace {namespace} --local` to remove what is there"
    );
    let home = arguments.spark_home.as_ref();
    let work = local::create(&store, namespace, &spec, home, &options, &progress);
    let outcome = super::unless_interrupted(work, next).await?;
    drop(progress);
    report(&outcome, arguments, name)
}

fn report(outcome: &Outcome, arguments: &Arguments, name: &ClusterName) -> Result<ExitCode, Error> {
    let format = arguments.output.output;
    if arguments.dry_run {
        report::print(&report::status::dry_run(&outcome.would, format))?;
    }
    match &outcome.state {
        Some(state) => report::print(&report::status::cluster(state, format))?,
        None if !arguments.dry_run && format == Format::Name => report::print(&format!("{name}\n"))?,
        None => {}
    }
    Ok(ExitCode::Success)
}

impl Arguments {
    fn options(&self) -> Options {
        Options {
            timeout: self.timeout,
            wait: !self.no_wait,
            dry_run: self.dry_run,
            retain: self.retain,
            skip_preflight: self.skip_preflight,
            force_conflicts: self.force_conflicts,
        }
    }
}
