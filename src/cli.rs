//! Arguments as they are given. What they mean is decided by the commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    connect_url, create, doctor, failover, jobs, list, local, logs, render, rotate_secret, route, router, scale,
    status, submit, teardown, ui, upgrade,
};
use crate::platform::kubernetes::ConnectOptions;
use crate::report::Format;
use crate::report::exit_code::ExitCode;
use crate::spec::names::Namespace;

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

/// Arguments of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Namespace; the kubeconfig's own if left out
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Path of the kubeconfig
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// On this machine instead of Kubernetes
    #[arg(long, global = true, conflicts_with_all = ["context", "kubeconfig"])]
    pub local: bool,
    /// Tell more: -v retries and takeovers, -vv every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Tell only warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

impl Global {
    /// How to find the cluster. `namespace` is the resolved one, where a cluster file may have named it.
    pub fn connect_options(&self, namespace: Option<Namespace>) -> ConnectOptions {
        ConnectOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            namespace,
        }
    }
}

/// How results are written.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
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
