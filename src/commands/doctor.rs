//! `sparkha doctor`.

use clap::Args;

use super::spec::PlacedSpecArguments;
use crate::commands::arguments::{Global, OutputArguments};
use crate::doctor::kubernetes::diagnose;
use crate::doctor::{self, Check, Status};
use crate::lifecycle::generations::Generation;
use crate::lifecycle::{Error, generations};
use crate::platform::kubernetes::Cluster;
use crate::platform::local::LocalPlatform;
use crate::platform::{Backend, Platform};
use crate::report;
use crate::report::exit_code::ExitCode;
use crate::spec::ClusterSpec;

/// Check a cluster, or what creating one needs
///
/// doctor changes nothing. It runs checks of names, networks, clocks and disks inside pods if you have permission to run programs there (pods/exec).
///
/// Exit code 0 means that no check failed, 8 that a cluster cannot be created, 9 that the existing cluster has a fault.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  sparkha doctor --namespace data              check the cluster, or what creating it needs
  sparkha doctor etl -f sparkha.yaml -o json   print name, status, finding and hint of each check
  sparkha doctor --local -f sparkha.yaml       also list settings that this machine ignores")]
pub struct Arguments {
    #[command(flatten)]
    spec: PlacedSpecArguments,
    #[command(flatten)]
    output: OutputArguments,
}

pub async fn run(global: &Global, arguments: Arguments) -> Result<ExitCode, Error> {
    let mut description = arguments.spec.describe(global)?;
    let platform = description.platform(global).await?;
    // A failed connection is a result of the checks.
    let generation = generations::find(platform.clone()).await;
    let generation = generation.unwrap_or(Generation { platform, alias: None });
    description.set_generation(generation.clone());
    let spec = description.resolve(global)?;
    let (checks, code) = match generation.platform.backend() {
        Backend::Local(platform) => local(platform, &spec).await?,
        Backend::Kubernetes(cluster) => kubernetes(cluster, &spec).await?,
    };
    report::print(&report::doctor::checks(&checks, arguments.output.output))?;
    let has_failed = checks.iter().any(|check| check.status == Status::Failed);
    Ok(if has_failed { code } else { ExitCode::Success })
}

/// The checks, and the exit code if one of them failed.
async fn kubernetes(cluster: &Cluster, spec: &ClusterSpec) -> Result<(Vec<Check>, ExitCode), Error> {
    let work = async { Ok(diagnose(cluster, spec).await) };
    let diagnosis = super::unless_interrupted(work, "nothing was changed").await?;
    tracing::info!("{} requests to the API server", cluster.requests());
    let code = match (diagnosis.unreachable, diagnosis.exists) {
        (Some(error), _) => ExitCode::from(&Error::from(error)),
        (None, true) => ExitCode::NotReady,
        (None, false) => ExitCode::Impossible,
    };
    Ok((diagnosis.checks, code))
}

/// The same on this machine.
async fn local(platform: &LocalPlatform, spec: &ClusterSpec) -> Result<(Vec<Check>, ExitCode), Error> {
    let mut checks = doctor::local::checks(spec, &platform.dir, platform.spark_home.as_deref());
    let Some(inventory) = platform.inventory().await? else {
        return Ok((checks, ExitCode::Impossible));
    };
    checks.extend(doctor::local::of_cluster(platform, spec, &inventory).await?);
    Ok((checks, ExitCode::NotReady))
}
