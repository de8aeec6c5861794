//! The built-in router from its options to its end: binds sockets, reads files, rereads them at SIGHUP, and drains at SIGTERM.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use crate::clients::spark::BoxError;
use crate::lifecycle::Error;
use crate::model::error_chain::with_sources;
use crate::model::ports::{DRIVER_UI_PORTS, UI_PORTS};
use crate::platform::system::{Hangups, termination};
use crate::platform::transport::Transport;
use crate::router::dns::zone::Zone;
use crate::router::dns::{self, Sockets};
use crate::router::{Access, HttpListeners, Router, UiNaming, metrics, serve};
use crate::routes::follow::Follow;

/// Where and how to serve.
pub struct ServeOptions {
    pub listen: Vec<IpAddr>,
    /// Ports at which the host alone decides.
    pub ports: Vec<u16>,
    pub naming: UiNaming,
    pub tls: Option<Tls>,
    pub users: Option<PathBuf>,
    pub tokens: Option<PathBuf>,
    /// Where metrics and health are served.
    pub monitoring: metrics::MonitoringAddress,
}

/// The files of a certificate.
pub struct Tls {
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// A router whose sockets are bound.
pub struct BoundRouter {
    http: Option<Http>,
    dns: Option<(Arc<Zone>, Vec<Sockets>)>,
}

struct Http {
    listeners: Vec<TcpListener>,
    options: ServeOptions,
    access: Access,
    certificate: Option<Arc<ServerConfig>>,
    monitoring: metrics::MetricsListener,
}

impl BoundRouter {
    /// Binds the sockets and reads the files before anything else starts.
    pub async fn bind(http: Option<ServeOptions>, dns: Option<(Zone, Vec<SocketAddr>)>) -> Result<Self, Error> {
        let dns = match dns {
            Some((zone, at)) => {
                let mut sockets = Vec::new();
                for address in at {
                    let bound = Sockets::bind(address).await;
                    sockets.push(bound.map_err(|source| Error::Listen { address, source })?);
                }
                Some((Arc::new(zone), sockets))
            }
            None => None,
        };
        let http = match http {
            Some(options) => Some(Http::bind(options).await?),
            None => None,
        };
        Ok(Self { http, dns })
    }

    /// The web UIs' names in the browser.
    pub fn naming(&self) -> Option<UiNaming> {
        self.http.as_ref().map(|http| http.options.naming)
    }

    /// Serves until SIGTERM or Ctrl-C. Without routes, it does not serve HTTP.
    pub async fn serve(self, routes: Option<(&Follow, Transport)>) -> Result<(), Error> {
        let dns = async {
            match self.dns {
                Some((zone, sockets)) => dns::serve(zone, sockets).await,
                None => std::future::pending().await,
            }
        };
        let http = async {
            match (self.http, routes) {
                (Some(http), Some((follow, transport))) => http.serve(follow, transport).await,
                _ => {
                    until_terminated(|| Ok(()))?.await;
                    Ok(())
                }
            }
        };
        tokio::select! {
            outcome = http => outcome,
            () = dns => Ok(()),
        }
    }
}

impl Http {
    async fn bind(mut options: ServeOptions) -> Result<Self, Error> {
        let access = Access::read(options.users.as_deref(), options.tokens.as_deref())?;
        let certificate = options.tls.as_ref().map(certificate).transpose()?;
        let mut ports = BTreeSet::from_iter(options.ports.iter().copied());
        if !matches!(options.naming, UiNaming::Localhost { .. }) {
            ports.extend(UI_PORTS.into_iter().chain(DRIVER_UI_PORTS));
        }
        let mut listeners = Vec::new();
        let places = options
            .listen
            .iter()
            .flat_map(|ip| ports.iter().map(|port| (*ip, *port)));
        for address in places.map(SocketAddr::from) {
            listeners.push(listen(address).map_err(|source| Error::Listen { address, source })?);
        }
        // Port 0 means any: from now on, use the one that was chosen.
        if let (UiNaming::Localhost { port }, Some(Ok(address))) =
            (&mut options.naming, listeners.first().map(TcpListener::local_addr))
        {
            *port = address.port();
        }
        let monitoring = options.monitoring.bind().await;
        let monitoring = monitoring.map_err(|(address, source)| Error::Listen { address, source })?;
        Ok(Self {
            listeners,
            options,
            access,
            certificate,
            monitoring,
        })
    }

    async fn serve(self, follow: &Follow, transport: Transport) -> Result<(), Error> {
        let (certificates, tls) = self.certificate.map(watch::channel).unzip();
        let router = Arc::new(Router::new(
            follow.published(),
            transport,
            self.options.naming,
            self.access,
        ));
        let listeners = HttpListeners {
            listeners: self.listeners,
            tls,
            // Every user of this machine can connect.
            only_own: matches!(self.options.naming, UiNaming::Localhost { .. }),
        };
        let end = until_terminated(|| reload(&router, &self.options, certificates.as_ref()))?;
        tokio::select! {
            served = serve(router.clone(), listeners, end) => served.map_err(Error::io("serve the router")),
            () = metrics::serve(self.monitoring, router.clone()) => Ok(()),
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Completes at SIGTERM or Ctrl-C, and rereads the files at every SIGHUP.
fn until_terminated(reload: impl Fn() -> Result<(), Error>) -> Result<impl Future<Output = ()>, Error> {
    let signals = Hangups::listen().and_then(|hangups| Ok((hangups, termination()?)));
    let (mut hangups, end) = signals.map_err(Error::io("listen for signals"))?;
    Ok(async move {
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                () = hangups.next() => match reload() {
                    Ok(()) => tracing::info!("reread certificate, users and tokens"),
                    Err(error) => tracing::warn!("{}; keeping the previous files", with_sources(&error)),
                },
            }
        }
    })
}

fn reload(
    router: &Router,
    options: &ServeOptions,
    certificates: Option<&watch::Sender<Arc<ServerConfig>>>,
) -> Result<(), Error> {
    let access = Access::read(options.users.as_deref(), options.tokens.as_deref())?;
    if let (Some(sender), Some(tls)) = (certificates, &options.tls) {
        sender.send_replace(certificate(tls)?);
    }
    router.set_access(access);
    Ok(())
}

fn certificate(tls: &Tls) -> Result<Arc<ServerConfig>, Error> {
    let wrong = |path: &Path, source: BoxError| Error::Certificate {
        path: path.to_owned(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(&tls.chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(&tls.chain, error.into()))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| wrong(&tls.key, error.into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| wrong(&tls.chain, error.into()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
