//! `sparkha route apply`.

use std::time::Duration;

use clap::Args;

use super::publish;
use super::target::TargetArguments;
use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::{CONTINUE, Clusters, duration, heading, unless_interrupted};
use crate::lifecycle::Error;

/// The minimum time to live: etcd extends shorter leases, and a run of sparkha takes time.
const SHORTEST_TTL: Duration = Duration::from_secs(5);

/// Write the routes to Vulcand; unchanged routes are not written
///
/// apply also deletes routes of this owner in the namespace (with -A in all namespaces) whose web UI no longer exists. It never changes routes of
/// other owners; if one of them conflicts, apply fails with exit code 5.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  sparkha route apply --etcd etcd.example:2379 --namespace data
  sparkha route apply -A --vulcand-api http://vulcand.example:8182
  sparkha route apply -A --etcd a:2379,b:2379 --etcd-ca ca.pem --etcd-user sparkha --etcd-password-file password
  sparkha route apply --etcd 127.0.0.1:2379 --local --dry-run")]
pub struct Arguments {
    /// Write the routes of all namespaces
    #[arg(short = 'A', long, help_heading = heading::SELECTION)]
    all_namespaces: bool,
    #[command(flatten)]
    target: TargetArguments,
    /// Let routes expire after this time unless they are applied again
    #[arg(long, value_name = "TIME", value_parser = ttl, help_heading = heading::CHANGES)]
    ttl: Option<Duration>,
    /// Print what would be written, and write nothing
    #[arg(long, help_heading = heading::CHANGES)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// A time to live that etcd supports.
pub fn ttl(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        ttl if ttl < SHORTEST_TTL => Err("it must be 5s or more".into()),
        ttl => Ok(ttl),
    }
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<(), Error> {
    let target = arguments.target.target(global, arguments.ttl)?;
    let work = async {
        let (scope, table) = super::table(&Clusters::connect(global).await?, arguments.all_namespaces).await?;
        publish(
            target,
            &table.routes,
            &scope,
            arguments.dry_run,
            arguments.output.output,
        )
        .await
    };
    unless_interrupted(work, CONTINUE).await
}
