//! `sparkha teardown`.

use std::time::Duration;

use clap::Args;
use kube::ResourceExt;

use crate::cli::Global;
use crate::exit_code::ExitCode;
use crate::report::progress::Progress;
use crate::spec::names::ClusterName;
use crate::steps::Error;
use crate::steps::external_zookeeper::Znodes;
use crate::steps::local::teardown as local;
use crate::steps::teardown::{Options, belongings, teardown};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha teardown --namespace data
  sparkha teardown etl --yes                   volume claims too, without asking
  sparkha teardown etl --keep-data             all but the volume claims")]
pub struct Arguments {
    /// Name of the cluster [default: spark]
    name: Option<String>,
    /// Keep volume claims, and the znodes in an external ZooKeeper
    #[arg(long, conflicts_with = "yes")]
    keep_data: bool,
    /// Remove volume claims, and the znodes in an external ZooKeeper, without asking
    #[arg(short, long)]
    yes: bool,
    /// How long to wait until everything is gone (on Kubernetes)
    #[arg(long, default_value = "3m", value_parser = super::duration)]
    timeout: Duration,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let name = super::cluster_name(arguments.name.as_deref())?;
    if global.local {
        return run_local(global, arguments, &name).await;
    }
    let cluster = super::connected(global).await?;
    let progress = Progress::new(global.quiet);
    let Some(belongings) = belongings(&cluster, &name).await? else {
        progress.done(&format!(
            "Nothing to do: there is no cluster {name} in namespace {}",
            cluster.namespace()
        ));
        return Ok(ExitCode::Success);
    };
    let claims: Vec<_> = belongings.claims.iter().map(ResourceExt::name_any).collect();
    arguments.confirm(&claims, belongings.znodes.as_deref())?;
    let options = Options {
        timeout: arguments.timeout,
        keep_claims: arguments.keep_data,
        znodes: arguments.znodes(),
    };
    let work = teardown(&cluster, &name, belongings, &options, &progress);
    super::unless_interrupted(work, NEXT.into()).await?;
    Ok(ExitCode::Success)
}

const NEXT: &str = "run the same command again: it goes on where it stopped";

async fn run_local(global: &Global, arguments: &Arguments, name: &ClusterName) -> Result<ExitCode, Error> {
    let dir = super::local_cluster(global, name)?;
    let progress = Progress::new(global.quiet);
    let Some(belongings) = local::belongings(&dir)? else {
        progress.done(&format!(
            "Nothing to do: there is no cluster {name} in namespace {}",
            dir.namespace
        ));
        return Ok(ExitCode::Success);
    };
    arguments.confirm(&belongings.claims, belongings.znodes.as_deref())?;
    let work = local::teardown(belongings, arguments.keep_data, arguments.znodes(), &progress);
    super::unless_interrupted(work, NEXT.into()).await?;
    Ok(ExitCode::Success)
}

impl Arguments {
    fn znodes(&self) -> Znodes {
        match self.keep_data {
            true => Znodes::Keep,
            false => Znodes::Remove,
        }
    }

    /// Data is never removed without being told.
    fn confirm(&self, claims: &[String], znodes: Option<&str>) -> Result<(), Error> {
        let claims = match claims.len() {
            0 => None,
            count => Some(format!("{count} volume claims with data ({})", claims.join(", "))),
        };
        let data: Vec<_> = claims.into_iter().chain(znodes.map(str::to_owned)).collect();
        if data.is_empty() || self.keep_data || self.yes {
            return Ok(());
        }
        let consequence = format!("this would be removed: {}", data.join("; "));
        let help = "pass --yes to remove the data, or --keep-data to keep it";
        super::confirm(&consequence, "Remove it?", help)
    }
}
