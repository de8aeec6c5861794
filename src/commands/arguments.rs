//! Arguments that commands share.

use std::path::PathBuf;

use clap::Args;

use crate::commands::heading;
use crate::platform::kubernetes::ConnectOptions;
use crate::report::Format;
use crate::spec::names::Namespace;

/// Arguments of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Namespace [default: the kubeconfig's]
    #[arg(short, long, global = true, help_heading = heading::GLOBAL)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig
    #[arg(long, global = true, help_heading = heading::GLOBAL)]
    pub context: Option<String>,
    /// Kubeconfig [default: KUBECONFIG, or ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE", help_heading = heading::GLOBAL)]
    pub kubeconfig: Option<PathBuf>,
    /// Use clusters on this machine instead of Kubernetes
    #[arg(long, global = true, conflicts_with_all = ["context", "kubeconfig"], help_heading = heading::GLOBAL)]
    pub local: bool,
    /// Increase verbosity: -v logs retries and failovers, -vv requests
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = heading::GLOBAL)]
    pub verbose: u8,
    /// Print only warnings and errors
    #[arg(short, long, global = true, help_heading = heading::GLOBAL)]
    pub quiet: bool,
}

impl Global {
    /// How to find the cluster. `namespace` is the resolved one, which a cluster file may have set.
    pub fn connect_options(&self, namespace: Option<Namespace>) -> ConnectOptions {
        ConnectOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            namespace,
        }
    }
}

/// Output options.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArguments {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t, help_heading = heading::OUTPUT)]
    pub output: Format,
}
