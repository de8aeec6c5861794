//! From kubeconfig to a client: the same rules as kubectl's (`--kubeconfig`, `--context`, `KUBECONFIG` with several files,
//! `~/.kube/config`, then the pod's own service account).

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::{Cluster, Error};
use crate::spec::names::Namespace;

/// How to find the cluster; empty means kubectl's defaults.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub namespace: Option<Namespace>,
}

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Prepares a client. Nothing is sent yet.
pub async fn connect(options: &ConnectOptions) -> Result<Cluster, Error> {
    let mut config = configuration(options).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Cluster retries by itself: it tells the user, and is bounded.
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    let namespace = match &options.namespace {
        Some(namespace) => namespace.clone(),
        None => Namespace::parse(&config.default_namespace).map_err(|error| Error::NoCluster {
            reason: format!("the kubeconfig's namespace is not a valid name: {error}"),
        })?,
    };
    let client = Client::try_from(config).map_err(|error| Error::from_kube(error, "connect", &server))?;
    Ok(Cluster::new(client, server.trim_end_matches('/').to_owned(), namespace))
}

async fn configuration(options: &ConnectOptions) -> Result<Config, Error> {
    let wanted = KubeConfigOptions {
        context: options.context.clone(),
        ..KubeConfigOptions::default()
    };
    let kubeconfig = match &options.kubeconfig {
        Some(path) => Some(Kubeconfig::read_from(path).map_err(no_cluster)?),
        None if options.context.is_some() => Some(Kubeconfig::read().map_err(no_cluster)?),
        None => None,
    };
    match kubeconfig {
        Some(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &wanted)
            .await
            .map_err(no_cluster),
        None => Config::infer().await.map_err(no_cluster),
    }
}

fn no_cluster(error: impl std::fmt::Display) -> Error {
    Error::NoCluster {
        reason: error.to_string(),
    }
}
