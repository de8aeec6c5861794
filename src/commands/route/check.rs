//! `sparkha route check`.

use std::net::SocketAddr;

use clap::Args;

use super::target::TargetArguments;
use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::{Clusters, heading, name_server, unless_interrupted};
use crate::lifecycle::Error;
use crate::report;
use crate::report::exit_code::ExitCode;
use crate::routes::check::{CheckedServers, check};

/// Check that every web UI can be reached by its name
///
/// check resolves every name and requests every page, as a browser does. With --etcd or --vulcand-api it also compares the routes in Vulcand.
/// Exit code 0 means that all routes are right, 9 that one is wrong.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  sparkha route check --namespace data
  sparkha route check -A --etcd etcd.example:2379 --router vulcand.example
  sparkha route check --dns 192.0.2.53 --router 192.0.2.7 -o json")]
pub struct Arguments {
    /// Check the routes of all namespaces
    #[arg(short = 'A', long, help_heading = heading::SELECTION)]
    all_namespaces: bool,
    /// Name server to query: ADDRESS or ADDRESS:PORT [default: this machine's]
    #[arg(long, value_name = "SERVER", value_parser = dns_server, help_heading = heading::DNS)]
    dns: Option<SocketAddr>,
    /// Router that all names must lead to, by name or address
    ///
    /// Without it all names must lead to the same address.
    #[arg(long, value_name = "HOST", help_heading = heading::DNS)]
    router: Option<String>,
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    output: OutputArguments,
}

pub async fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let mut target = arguments.target.target_if_any(global, None)?;
    let servers = CheckedServers {
        dns: arguments.dns,
        router: arguments.router.clone(),
    };
    let work = async {
        let (scope, table) = super::table(&Clusters::connect(global).await?, arguments.all_namespaces).await?;
        check(&table.routes, &scope, target.as_mut(), &servers).await
    };
    let report = unless_interrupted(work, "nothing was changed").await?;
    report::print(&report::routes::check(&report, arguments.output.output))?;
    let is_right = report.is_right();
    Ok(if is_right {
        ExitCode::Success
    } else {
        ExitCode::NotReady
    })
}

fn dns_server(text: &str) -> Result<SocketAddr, String> {
    name_server(text).ok_or_else(|| "write it like 192.0.2.53 or 192.0.2.53:5353".into())
}
