//! Arguments as they are given. What they mean is decided by the commands.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::arguments::Global;
use crate::commands::{
    connect_url, create, doctor, failover, jobs, list, local, logs, render, rotate_secret, route, router, scale,
    status, submit, teardown, ui, upgrade,
};
use crate::lifecycle::Error;
use crate::report::exit_code::ExitCode;
use crate::report::{self, hint};

/// Runs highly available standalone Spark clusters on Kubernetes, without an operator.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "Examples:
  sparkha create --namespace data              3 masters, 3 ZooKeepers, 2 workers
  sparkha create etl -f sparkha.yaml           what the file says, named etl
  sparkha status --namespace data --watch
  sparkha submit --namespace data -- job.py 20
  sparkha teardown --namespace data
  sparkha create --local                       the same, as processes on this machine",
    after_long_help = ExitCode::TABLE
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Whether to write a line for each request to web UIs.
    pub fn has_access_log(&self) -> bool {
        match &self.command {
            Command::Router(arguments) => !arguments.no_access_log && !self.global.quiet,
            _ => self.global.verbose > 0,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a cluster, or change one to match
    Create(create::Arguments),
    /// Print the cluster's objects as YAML; needs no Kubernetes
    Render(render::Arguments),
    /// Remove a cluster and everything that create made
    Teardown(teardown::Arguments),
    /// Change the number of workers; those that go hand over what they have
    Scale(scale::Arguments),
    /// Change the version of Spark once nothing runs that it would end
    Upgrade(upgrade::Arguments),
    /// Show masters, ZooKeepers, workers and applications
    Status(status::Arguments),
    /// List clusters
    List(list::Arguments),
    /// Show or follow the logs of masters, workers, ZooKeepers, drivers and executors
    Logs(logs::Arguments),
    /// A drill: take the leader away and see the cluster recover
    Failover(failover::Arguments),
    /// Give a cluster another secret, and start anew all that knew the old one
    RotateSecret(rotate_secret::Arguments),
    /// Print the address of a cluster's Spark Connect server, with its token
    ConnectUrl(connect_url::Arguments),
    /// Run a job: its files are sent, its output is shown, its exit code is kept
    Submit(submit::Arguments),
    /// List jobs, or end one
    Jobs(jobs::Arguments),
    /// Routes to the web UIs
    #[command(subcommand)]
    Route(route::Command),
    /// Be the router of the web UIs: HTTP and DNS for the UI domain
    Router(router::Arguments),
    /// Open the web UIs in this machine's browser, without router or DNS
    Ui(ui::Arguments),
    /// Check what a cluster needs, and say what is missing
    Doctor(doctor::Arguments),
    /// Spark and clusters on this machine
    #[command(subcommand)]
    Local(local::Command),
    /// Print the JSON Schema of the cluster file, for editors
    Schema,
    /// Write man pages into a folder, one for each command
    Man {
        /// The folder, such as ~/.local/share/man/man1
        folder: PathBuf,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs a command.
pub async fn run(cli: Cli) -> Result<ExitCode, Error> {
    let global = cli.global;
    hint::update(|invocation| {
        invocation.namespace = global.namespace.clone();
        invocation.context = global.context.clone();
        invocation.kubeconfig = global.kubeconfig.clone();
        invocation.local = global.local;
    });
    match cli.command {
        Command::Create(arguments) => create::run(&global, arguments).await,
        Command::Render(arguments) => render::run(&global, &arguments),
        Command::Teardown(arguments) => teardown::run(&global, &arguments).await,
        Command::Scale(arguments) => scale::run(&global, &arguments).await,
        Command::Upgrade(arguments) => upgrade::run(&global, arguments).await,
        Command::Status(arguments) => status::run(&global, &arguments).await,
        Command::List(arguments) => list::run(&global, &arguments).await,
        Command::Logs(arguments) => logs::run(&global, arguments).await,
        Command::Failover(arguments) => failover::run(&global, &arguments).await,
        Command::RotateSecret(arguments) => rotate_secret::run(&global, &arguments).await,
        Command::Submit(arguments) => submit::run(&global, arguments).await,
        Command::Jobs(arguments) => jobs::run(&global, &arguments).await,
        Command::Route(command) => route::run(&global, command).await,
        Command::Router(arguments) => router::run(&global, arguments).await,
        Command::Ui(arguments) => ui::run(&global, arguments).await,
        Command::ConnectUrl(arguments) => connect_url::run(&global, &arguments).await,
        Command::Doctor(arguments) => doctor::run(&global, arguments).await,
        Command::Local(command) => local::run(&global, command).await,
        Command::Schema => {
            report::print(&report::json(&crate::spec::file::schema()))?;
            Ok(ExitCode::Success)
        }
        Command::Man { folder } => {
            let shown = folder.display();
            std::fs::create_dir_all(&folder).map_err(Error::io(format!("make folder {shown}")))?;
            let written = clap_mangen::generate_to(Cli::command(), &folder);
            written.map_err(Error::io(format!("write the manual pages to {shown}")))?;
            Ok(ExitCode::Success)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sparkha", &mut script);
            report::print(&String::from_utf8_lossy(&script))?;
            Ok(ExitCode::Success)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_that_take_a_name_are_known() {
        let mut found = Vec::new();
        let cli = Cli::command();
        let mut queue: Vec<_> = cli.get_subcommands().map(|sub| (String::new(), sub)).collect();
        while let Some((before, command)) = queue.pop() {
            let path = format!("{before}{}", command.get_name());
            let first = command.get_positionals().next();
            let named = first.and_then(|first| first.get_value_names()?.first());
            if named.is_some_and(|named| named.starts_with("NAME")) {
                found.push(path.clone());
            }
            queue.extend(command.get_subcommands().map(|sub| (format!("{path} "), sub)));
        }
        found.sort();
        let mut known = hint::NAMED.map(str::to_owned);
        known.sort();
        assert_eq!(found, known);
    }
}
