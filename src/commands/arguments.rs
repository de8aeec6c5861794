//! Arguments that commands share.

use std::path::PathBuf;

use clap::Args;

use crate::platform::kubernetes::ConnectOptions;
use crate::report::Format;
use crate::spec::names::Namespace;

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
