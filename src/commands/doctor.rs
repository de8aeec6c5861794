//! `sparkha doctor`.

use std::path::PathBuf;

use clap::Args;

use super::spec::SpecArguments;
use crate::commands::arguments::{Global, Output};
use crate::doctor::kubernetes::diagnose;
use crate::doctor::{self, Check, Status};
use crate::jobs::local_orphans;
use crate::lifecycle::generations::Generation;
use crate::lifecycle::local::LocalView;
use crate::lifecycle::place::Place;
use crate::lifecycle::{Error, generations};
use crate::platform::kubernetes::Cluster;
use crate::platform::local::store::ClusterDir;
use crate::report;
use crate::report::exit_code::ExitCode;
use crate::spec::ClusterSpec;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha doctor --namespace data              what is wrong with the cluster, or what making it would need
  sparkha doctor etl -f sparkha.yaml -o json   the same as data: name, status, seen, hint
  sparkha doctor --local -f sparkha.yaml       what of this cluster file the machine cannot honour

Nothing is changed. Pods are asked about names, networks and clocks if you may run something in them (pods/exec).
Exit code 0 means that nothing failed, 8 that a cluster could not be made, 9 that the one that is there is not as it should be.")]
pub struct Arguments {
    #[command(flatten)]
    spec: SpecArguments,
    /// Spark for a local cluster [default: SPARK_HOME, PATH, or what `sparkha local fetch` brought]
    #[arg(long, value_name = "FOLDER")]
    spark_home: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub async fn run(global: &Global, arguments: Arguments) -> Result<ExitCode, Error> {
    super::only_local(global, "--spark-home", arguments.spark_home.is_some())?;
    let mut description = arguments.spec.describe()?;
    let place = description.place(global).await?;
    // Who cannot be asked is what the checks are about.
    let generation = generations::find(place.clone()).await;
    let generation = generation.unwrap_or(Generation { place, alias: None });
    description.set_generation(generation.clone());
    let spec = description.resolve(global)?;
    let (checks, code) = match &generation.place {
        Place::Local(dir) => local(&arguments, dir, &spec).await?,
        Place::Kubernetes(cluster, _) => kubernetes(cluster, &spec).await?,
    };
    report::print(&report::doctor::checks(&checks, arguments.output.output))?;
    match checks.iter().any(|check| check.status == Status::Failed) {
        true => Ok(code),
        false => Ok(ExitCode::Success),
    }
}

/// The checks, and the exit code if one of them failed.
async fn kubernetes(cluster: &Cluster, spec: &ClusterSpec) -> Result<(Vec<Check>, ExitCode), Error> {
    let work = async { Ok(diagnose(cluster, spec).await) };
    let diagnosis = super::unless_interrupted(work, "nothing was changed".into()).await?;
    tracing::info!("{} requests to the API server", cluster.requests());
    let code = match (diagnosis.unreachable, diagnosis.exists) {
        (Some(error), _) => ExitCode::from(&Error::from(error)),
        (None, true) => ExitCode::NotReady,
        (None, false) => ExitCode::Impossible,
    };
    Ok((diagnosis.checks, code))
}

/// The same on this machine.
async fn local(arguments: &Arguments, dir: &ClusterDir, spec: &ClusterSpec) -> Result<(Vec<Check>, ExitCode), Error> {
    let mut checks = doctor::local::checks(spec, dir, arguments.spark_home.as_deref());
    if !dir.exists() {
        return Ok((checks, ExitCode::Impossible));
    }
    let state = LocalView::of(dir).state().await?;
    checks.extend(doctor::local::of_cluster(&state, &local_orphans(dir).await?));
    Ok((checks, ExitCode::NotReady))
}
