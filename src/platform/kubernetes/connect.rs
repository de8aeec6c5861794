//! Creates a client from a kubeconfig by kubectl's rules: `--kubeconfig`, `--context`, `KUBECONFIG` with several files,
//! `~/.kube/config`, then the pod's own service account.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioExecutor;
use kube::client::middleware::AuthLayer;
use kube::client::{ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::{BoxError, Service, ServiceBuilder};

use super::proxy::proxy;
use super::warnings::WarningLayer;
use super::{ApiEndpoint, Cluster, Error};
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
    let (config, proxy) = load_config(options).await?;
    let server = ApiEndpoint {
        address: config.cluster_url.to_string().trim_end_matches('/').to_owned(),
        proxy: proxy
            .as_ref()
            .map(|proxy| proxy.uri().to_string().trim_end_matches('/').to_owned()),
        plugin: config.auth_info.exec.as_ref().map(Into::into),
    };
    let namespace = match &options.namespace {
        Some(namespace) => namespace.clone(),
        None => Namespace::parse(&config.default_namespace).map_err(|error| Error::NoCluster {
            reason: format!("the kubeconfig's namespace is not a valid name: {error}"),
        })?,
    };
    let client = client(config, proxy).map_err(|error| Error::from_kube(error, "connect", &server))?;
    Ok(Cluster::new(client, server, namespace))
}

/// Builds a client as kube's own builder does, but for two things: kube compares `NO_PROXY` with the proxy's address instead of the
/// server's, and it runs a credential plugin three times.
fn client(mut config: Config, proxy: Option<Intercept>) -> Result<Client, kube::Error> {
    let auth = config.auth_layer()?;
    if auth.is_some() {
        // The plugin printed a token. It would be run again to look for a certificate.
        config.auth_info.exec = None;
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let Some(proxy) = proxy else {
        return client_over(tcp, auth, &config);
    };
    let to = proxy.uri().clone();
    if let Some("socks5" | "socks5h") = to.scheme_str() {
        let socks = SocksV5::new(to, tcp);
        let socks = match proxy.raw_auth() {
            Some((user, password)) => socks.with_auth(user.to_owned(), password.to_owned()),
            None => socks,
        };
        return client_over(socks, auth, &config);
    }
    // TLS to the proxy itself, if its address says so.
    let tunnel = Tunnel::new(to, config.rustls_https_connector_with_connector(tcp)?);
    client_over(
        match proxy.basic_auth() {
            Some(credentials) => tunnel.with_auth(credentials.clone()),
            None => tunnel,
        },
        auth,
        &config,
    )
}

/// A client with connections of this kind.
fn client_over<C>(connector: C, auth: Option<AuthLayer>, config: &Config) -> Result<Client, kube::Error>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: std::error::Error + Send + Sync + 'static,
{
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(connector)?);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_write_timeout(config.write_timeout);
    let http: legacy::Client<_, kube::client::Body> = legacy::Client::builder(TokioExecutor::new()).build(connector);
    // No layer retries: `Cluster` does, logs each retry, and is bounded in time.
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    let builder = ClientBuilder::new(service, config.default_namespace.clone());
    Ok(builder.with_layer(&WarningLayer::default()).build())
}

async fn load_config(options: &ConnectOptions) -> Result<(Config, Option<Intercept>), Error> {
    let kube_options = KubeConfigOptions {
        context: options.context.clone(),
        ..KubeConfigOptions::default()
    };
    let kubeconfig = match &options.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let config = match kubeconfig {
        Ok(kubeconfig) => {
            let proxy = proxy(&kubeconfig, options.context.as_deref(), |name| std::env::var(name).ok())?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &kube_options).await;
            config.map(|config| (config, proxy))
        }
        Err(error) => Err(error),
    };
    let may_be_pod = options.kubeconfig.is_none() && options.context.is_none();
    match config {
        Err(error) if may_be_pod => match Config::incluster() {
            Ok(config) => Ok((config, None)),
            Err(in_cluster) => Err(Error::NoCluster {
                reason: match std::env::var_os(IN_POD) {
                    Some(_) => format!("the service account of this pod cannot be used: {in_cluster}"),
                    None => no_kubeconfig(&error),
                },
            }),
        },
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
