//! A proxy in front of the real API server that fails as it is told to. It takes plain HTTP and keeps no connection for a second
//! request, so that everything after a request's head, a WebSocket too, is bytes to be passed on.

use std::io::{Error, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Sandbox, kubeconfig};

/// What happens to a request instead of being answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It is refused with this status, and never reaches the API server.
    Refuse(u16),
    /// Nothing happens until [`Proxy::relent`]; then it goes on as if nothing had been.
    Stall,
    /// The API server gets it, but its answer breaks off after so many bytes.
    CutAfter(u64),
    /// From [`Proxy::hang`] on nothing of its answer arrives any more, ever. One that comes later waits until [`Proxy::relent`].
    Hang,
}

/// Which requests are to fail.
#[derive(Clone, Debug)]
pub struct Rule {
    pub methods: &'static [&'static str],
    /// Part of the path and query.
    pub target: &'static str,
    pub fault: Fault,
    /// So many pass before the first fails.
    pub skip: usize,
    /// So many fail.
    pub times: usize,
}

impl Rule {
    /// Every such request fails.
    pub const fn every(methods: &'static [&'static str], target: &'static str, fault: Fault) -> Self {
        let (skip, times) = (0, usize::MAX);
        Self {
            methods,
            target,
            fault,
            skip,
            times,
        }
    }

    pub const fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    pub const fn skip(self, skip: usize) -> Self {
        Self { skip, ..self }
    }
}

/// A running proxy. Ends when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    kubeconfig: NamedTempFile,
    _runtime: Runtime,
}

struct Shared {
    rule: Mutex<Rule>,
    /// Requests that the rule was applied to.
    failed: Mutex<Vec<String>>,
    relented: watch::Sender<bool>,
    hung: watch::Sender<bool>,
    server: Server,
}

struct Server {
    address: (String, u16),
    tls: TlsConnector,
}

impl Proxy {
    /// The cluster's kubeconfig must have a client certificate.
    pub fn start(rule: Rule) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (shared, listener) = runtime.block_on(async {
            let shared = Shared {
                rule: Mutex::new(rule),
                failed: Mutex::default(),
                relented: watch::Sender::new(false),
                hung: watch::Sender::new(false),
                server: Server::known().await,
            };
            (Arc::new(shared), TcpListener::bind(("127.0.0.1", 0)).await.unwrap())
        });
        let address: SocketAddr = listener.local_addr().unwrap();
        let serving = shared.clone();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Broken connections are what this is for.
                tokio::spawn(serve(client, serving.clone()));
            }
        });
        let kubeconfig = write_kubeconfig(&json!({"server": format!("http://{address}")}), &json!({}));
        Self {
            shared,
            kubeconfig,
            _runtime: runtime,
        }
    }

    /// sparkha through this proxy, in the sandbox's namespace.
    pub fn command(&self, sandbox: &Sandbox, arguments: &[&str]) -> Command {
        let mut command = sandbox.command(arguments);
        command.env("KUBECONFIG", self.kubeconfig.path());
        command
    }

    /// The requests that failed so far, as `METHOD target`.
    pub fn failed(&self) -> Vec<String> {
        self.shared
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Lets stalled requests go on.
    pub fn relent(&self) {
        self.shared.relented.send_replace(true);
    }

    /// Silences the answers that are on their way.
    pub fn hang(&self) {
        self.shared.hung.send_replace(true);
    }
}

impl Shared {
    fn fault(&self, method: &str, target: &str) -> Option<Fault> {
        let mut rule = self.rule.lock().unwrap_or_else(PoisonError::into_inner);
        if !rule.methods.contains(&method) || !target.contains(rule.target) {
            return None;
        }
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times = rule.times.checked_sub(1)?;
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.push(format!("{method} {target}"));
        Some(rule.fault)
    }
}

impl Server {
    async fn known() -> Self {
        let kubeconfig = Kubeconfig::read_from(kubeconfig()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        let url = &config.cluster_url;
        Self {
            address: (url.host().unwrap().to_owned(), url.port_u16().unwrap_or(443)),
            tls: Arc::new(config.rustls_client_config().unwrap()).into(),
        }
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, Error> {
        let (host, port) = &self.address;
        let name = ServerName::try_from(host.clone()).map_err(Error::other)?;
        self.tls
            .connect(name, TcpStream::connect((host.as_str(), *port)).await?)
            .await
    }
}

/// One connection, which is one request.
async fn serve(mut client: TcpStream, shared: Arc<Shared>) -> Result<(), Error> {
    let mut received = Vec::new();
    let length = loop {
        if client.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
        if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8_lossy(&received[..length]).into_owned();
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let fault = shared.fault(method, target);
    let is_late = *shared.hung.borrow();
    match fault {
        Some(Fault::Refuse(status)) => {
            client.write_all(refusal(status).as_bytes()).await?;
            client.shutdown().await?;
            // What is left unread would make the kernel take the answer back.
            return copy(&mut client, &mut sink()).await.map(|_| ());
        }
        Some(Fault::Stall | Fault::Hang) if fault == Some(Fault::Stall) || is_late => {
            let mut relented = shared.relented.subscribe();
            loop {
                tokio::select! {
                    _ = relented.wait_for(|relented| *relented) => break,
                    read = client.read_buf(&mut received) => if read? == 0 { return Ok(()) },
                }
            }
        }
        _ => {}
    }
    let mut server = shared.server.connect().await?;
    server.write_all(for_one_request(&head).as_bytes()).await?;
    server.write_all(&received[length + 4..]).await?;
    if let Some(Fault::CutAfter(bytes)) = fault {
        // The request's body may still be on its way; the answer's first byte says that it has arrived.
        let (mut from_client, mut to_client) = client.split();
        let (from_server, mut to_server) = tokio::io::split(server);
        let mut answer = from_server.take(bytes.max(1));
        let mut first = [0];
        tokio::select! {
            _ = copy(&mut from_client, &mut to_server) => {}
            read = answer.read_exact(&mut first) => { read?; }
        }
        if bytes > 0 {
            to_client.write_all(&first).await?;
            copy(&mut answer, &mut to_client).await?;
        }
        return Ok(());
    }
    if fault == Some(Fault::Hang) && !is_late {
        let mut hung = shared.hung.subscribe();
        tokio::select! {
            copied = copy_bidirectional(&mut client, &mut server) => return copied.map(|_| ()),
            _ = hung.wait_for(|hung| *hung) => {}
        }
        // The client may end it, and nobody else.
        return copy(&mut client, &mut sink()).await.map(|_| ());
    }
    copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

/// The head of a request after which the server closes the connection, unless it becomes a WebSocket.
fn for_one_request(head: &str) -> String {
    let is_upgrade = head.to_ascii_lowercase().contains("\r\nupgrade:");
    let kept = head
        .lines()
        .filter(|line| is_upgrade || !line.to_ascii_lowercase().starts_with("connection:"));
    let mut lines: Vec<_> = kept.collect();
    if !is_upgrade {
        lines.push("Connection: close");
    }
    lines.join("\r\n") + "\r\n\r\n"
}

fn refusal(code: u16) -> String {
    let reason = match code {
        403 => "Forbidden",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let message = format!("the proxy refuses with {code}");
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
    .to_string();
    format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: application/json\r\nRetry-After: 1\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A kubeconfig with one context, of this cluster and this user.
pub fn write_kubeconfig(cluster: &Value, user: &Value) -> NamedTempFile {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "only",
        "contexts": [{"name": "only", "context": {"cluster": "only", "user": "only"}}],
        "clusters": [{"name": "only", "cluster": cluster}],
        "users": [{"name": "only", "user": user}],
    });
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(config.to_string().as_bytes()).unwrap();
    file
}
