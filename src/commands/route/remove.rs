//! `sparkha route remove`.

use clap::Args;

use super::publish;
use super::target::{TargetArguments, scope};
use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::{CONTINUE, Clusters, heading, named_namespace, unless_interrupted};
use crate::lifecycle::Error;
use crate::routing::vulcand::Scope;

/// Delete the routes that apply wrote, without a Kubernetes cluster
///
/// remove deletes the routes of this owner only.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  sparkha route remove --etcd etcd.example:2379 --namespace data
  sparkha route remove -A --vulcand-api http://vulcand.example:8182 --owner east
  sparkha route remove --etcd 127.0.0.1:2379 --local --dry-run")]
pub struct Arguments {
    /// Delete the routes of all namespaces
    #[arg(short = 'A', long, help_heading = heading::SELECTION)]
    all_namespaces: bool,
    #[command(flatten)]
    target: TargetArguments,
    /// Print what would be deleted, and delete nothing
    #[arg(long, help_heading = heading::CHANGES)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArguments,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<(), Error> {
    let target = arguments.target.target(global, None)?;
    let work = async {
        // Only needs the name of the namespace, not Kubernetes.
        let scope = match named_namespace(global)? {
            _ if arguments.all_namespaces => Scope::All,
            Some(namespace) => Scope::Namespace(namespace),
            None => scope(Clusters::connect(global).await?.namespace(), false),
        };
        publish(target, &[], &scope, arguments.dry_run, arguments.output.output).await
    };
    unless_interrupted(work, CONTINUE).await
}
