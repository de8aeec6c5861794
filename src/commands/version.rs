//! `sparkha version`.

use clap::Args;

use crate::commands::arguments::{Global, OutputArguments};
use crate::lifecycle::Error;
use crate::lifecycle::versions::Versions;
use crate::report;

/// Print the versions of sparkha and of a cluster
///
/// Without a cluster's name, version prints sparkha's own version and commit and the supported versions, and asks no server. With a name,
/// --local, or a global option that selects a cluster, it adds the cluster's versions, and says which do not fit together and what to do.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha version
  sparkha version etl --namespace data         also the versions of cluster etl
  sparkha version --local -o json")]
pub struct Arguments {
    /// Name of the cluster [default: spark, if another option selects a cluster]
    name: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<(), Error> {
    let name = arguments.name.as_deref();
    let mut versions = Versions::own();
    let queried = match name.is_some() || selects_cluster(global) {
        true => query(global, name, &mut versions).await,
        false => Ok(()),
    };
    // sparkha's own versions are printed also if the cluster's cannot be read.
    report::print(&report::versions::versions(&versions, arguments.output.output))?;
    queried
}

async fn query(global: &Global, name: Option<&str>, versions: &mut Versions) -> Result<(), Error> {
    let platform = super::named_cluster(global, name).await?;
    versions.query(platform.as_ref()).await
}

fn selects_cluster(global: &Global) -> bool {
    let Global {
        namespace,
        context,
        kubeconfig,
        local,
        ..
    } = global;
    *local || namespace.is_some() || context.is_some() || kubeconfig.is_some()
}
