//! `sparkha router`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::Global;
use crate::exit_code::ExitCode;
use crate::platform::local::store::Store;
use crate::platform::way::Way;
use crate::report::progress::Progress;
use crate::routing::router::Naming;
use crate::steps::Error;
use crate::steps::follow::{Follow, follow_file, follow_local};
use crate::steps::router::{Bound, Options, Tls};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha router --namespace data                            port 80 and Spark's own, at all addresses
  sparkha router -A --dns 0.0.0.0 --address 192.0.2.7        and DNS for the UI domain
  sparkha router --local --listen 127.0.0.1 --port 8000
  sparkha router --tls-cert tls.crt --tls-key tls.key --users htpasswd")]
pub struct Arguments {
    /// Clusters of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Address at which to listen; may be given several times [default: 0.0.0.0, with --local 127.0.0.1]
    #[arg(long, value_name = "IP")]
    listen: Vec<IpAddr>,
    /// Port at which the host name alone decides; may be given several times [default: 80, with TLS 443]. Spark's own, 8080, 8081, 18080 and 4040 to
    /// 4056, are always served
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<u16>,
    /// How to reach the pods
    #[arg(long, value_enum, default_value_t)]
    reach: Reach,
    /// Routes from a file, as `route render --format json` prints them, instead of asking Kubernetes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all_namespaces", "local"])]
    routes: Option<PathBuf>,
    /// Certificate chain (PEM); read again at SIGHUP, as are all files
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Who may come in: names and bcrypt hashes, as `htpasswd -B` writes them
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Who may come in: bearer tokens, a line each
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Write no line for each request
    #[arg(long)]
    no_access_log: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Reach {
    /// Direct inside the cluster, by port-forward outside
    #[default]
    Auto,
    /// By their addresses
    Direct,
    /// Through the API server
    PortForward,
}

pub async fn run(global: &Global, arguments: Arguments) -> Result<ExitCode, Error> {
    let tls = arguments.tls_cert.zip(arguments.tls_key);
    let (naming, port) = match &tls {
        Some(_) => (Naming::Secure, 443),
        None => (Naming::AsLinked, 80),
    };
    let default_listen = match global.local {
        true => Ipv4Addr::LOCALHOST,
        false => Ipv4Addr::UNSPECIFIED,
    };
    let options = Options {
        listen: or_default(arguments.listen, default_listen.into()),
        ports: or_default(arguments.ports, port),
        naming,
        tls: tls.map(|(chain, key)| Tls { chain, key }),
        users: arguments.users,
        tokens: arguments.tokens,
    };
    let bound = Bound::bind(options)?;
    let (follow, way) = match &arguments.routes {
        Some(file) => (follow_file(file)?, Way::Direct),
        None => follow(global, arguments.all_namespaces, arguments.reach).await?,
    };
    Progress::new(global.quiet).done("Routing; Ctrl-C ends it");
    bound.serve(&follow, way).await?;
    Ok(ExitCode::Success)
}

fn or_default<T>(given: Vec<T>, default: T) -> Vec<T> {
    match given.is_empty() {
        true => vec![default],
        false => given,
    }
}

/// The routes, and the way to the pods.
pub async fn follow(global: &Global, all_namespaces: bool, reach: Reach) -> Result<(Follow, Way), Error> {
    if global.local {
        let namespace = super::local_namespace(global.namespace.as_deref())?;
        let follow = follow_local(Store::open()?, (!all_namespaces).then_some(namespace));
        return Ok((follow, Way::Direct));
    }
    let cluster = super::connected(global).await?;
    let is_inside = global.kubeconfig.is_none()
        && global.context.is_none()
        && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        && std::env::var_os("KUBECONFIG").is_none();
    let way = match reach {
        Reach::Direct => Way::Direct,
        Reach::Auto if is_inside => Way::Direct,
        Reach::Auto | Reach::PortForward => Way::Forwarded(cluster.clone()),
    };
    Ok((Follow::kubernetes(&cluster, all_namespaces, way.clone()).await?, way))
}
