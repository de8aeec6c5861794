//! `sparkha route check`.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

use super::target::{TargetArguments, scope};
use crate::commands::arguments::{Global, Output};
use crate::commands::{Clusters, unless_interrupted};
use crate::lifecycle::Error;
use crate::report;
use crate::report::exit_code::ExitCode;
use crate::routes::check::{Asked, check};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha route check --namespace data
  sparkha route check -A --etcd etcd.example:2379 --router vulcand.example
  sparkha route check --dns 192.0.2.53 --router 192.0.2.7 -o json

Resolves every name, asks for every page as a browser would, and with --etcd or --vulcand-api also compares what is in Vulcand.
Exit code 0 means that all is right, 9 that something is not.")]
pub struct Arguments {
    /// Clusters of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    target: TargetArguments,
    /// Name server to ask: ADDRESS or ADDRESS:PORT [default: that of this machine]
    #[arg(long, value_name = "SERVER", value_parser = name_server)]
    dns: Option<SocketAddr>,
    /// Name or address of the router; all names must lead to it [default: wherever they lead, if all lead to the same]
    #[arg(long, value_name = "HOST")]
    router: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let mut target = arguments.target.target_if_any(global, None)?;
    let asked = Asked {
        dns: arguments.dns,
        router: arguments.router.clone(),
    };
    let work = async {
        let clusters = Clusters::connect(global).await?;
        let scope = scope(clusters.namespace(), arguments.all_namespaces);
        let table = super::table(&clusters, arguments.all_namespaces).await?;
        check(&table.routes, &scope, target.as_mut(), &asked).await
    };
    let report = unless_interrupted(work, "nothing was changed".into()).await?;
    report::print(&report::routes::check(&report, arguments.output.output))?;
    Ok(match report.is_right() {
        true => ExitCode::Success,
        false => ExitCode::NotReady,
    })
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let with_port = |address: IpAddr| SocketAddr::new(address, 53);
    text.parse()
        .or_else(|_| text.parse().map(with_port))
        .map_err(|_| "write it like 192.0.2.53 or 192.0.2.53:5353".into())
}
