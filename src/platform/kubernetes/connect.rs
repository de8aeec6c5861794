//! Creates a client from a kubeconfig by kubectl's rules: `--kubeconfig`, `--context`, `KUBECONFIG` with several files,
//! `~/.kube/config`, then the pod's own service account.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use kube::Config;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::warnings::WarningLayer;
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

/// The environment variable that the kubelet sets in every container.
const IN_POD: &str = "KUBERNETES_SERVICE_HOST";

/// Creates a client. It sends no request yet.
pub async fn connect(options: &ConnectOptions) -> Result<Cluster, Error> {
    let mut config = load_config(options).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // `Cluster` retries by itself: it logs each retry and is bounded in time.
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    let namespace = match &options.namespace {
        Some(namespace) => namespace.clone(),
        None => Namespace::parse(&config.default_namespace).map_err(|error| Error::NoCluster {
            reason: format!("the kubeconfig's namespace is not a valid name: {error}"),
        })?,
    };
    let builder = ClientBuilder::try_from(config).map_err(|error| Error::from_kube(error, "connect", &server))?;
    let client = builder.with_layer(&WarningLayer::default()).build();
    Ok(Cluster::new(client, server.trim_end_matches('/').to_owned(), namespace))
}

async fn load_config(options: &ConnectOptions) -> Result<Config, Error> {
    let kube_options = KubeConfigOptions {
        context: options.context.clone(),
        ..KubeConfigOptions::default()
    };
    let kubeconfig = match &options.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let config = match kubeconfig {
        Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &kube_options).await,
        Err(error) => Err(error),
    };
    let may_be_pod = options.kubeconfig.is_none() && options.context.is_none();
    match config {
        Err(error) if may_be_pod => Config::incluster().map_err(|in_cluster| Error::NoCluster {
            reason: match std::env::var_os(IN_POD) {
                Some(_) => format!("the service account of this pod cannot be used: {in_cluster}"),
                None => no_kubeconfig(&error),
            },
        }),
        config => config.map_err(|error| Error::NoCluster {
            reason: no_kubeconfig(&error),
        }),
    }
}

/// The reason why a kubeconfig cannot be used.
fn no_kubeconfig(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(source, path) if source.kind() == ErrorKind::NotFound => {
            format!("there is no kubeconfig at {}", path.display())
        }
        KubeconfigError::ReadConfig(source, path) => {
            format!("the kubeconfig {} cannot be read: {source}", path.display())
        }
        KubeconfigError::CurrentContextNotSet => "the kubeconfig sets no current context".into(),
        KubeconfigError::LoadContext(name) => format!("the kubeconfig has no context {name}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("the kubeconfig has no cluster {name}"),
        other => format!("the kubeconfig cannot be used: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unusable_kubeconfig_gives_a_reason_in_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let reason = async |context: Option<&str>| {
            let options = ConnectOptions {
                kubeconfig: Some(path.clone()),
                context: context.map(str::to_owned),
                namespace: None,
            };
            connect(&options).await.map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(
            reason(None).await,
            format!("there is no kubeconfig at {}", path.display())
        );
        std::fs::write(&path, "apiVersion: v1\nkind: Config\n").unwrap();
        assert_eq!(reason(None).await, "the kubeconfig sets no current context");
        assert_eq!(reason(Some("prod")).await, "the kubeconfig has no context prod");
    }
}
