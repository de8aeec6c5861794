//! `sparkha router`: a router in the foreground, until it is interrupted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hickory_proto::rr::Name;
use jiff::Timestamp;

use super::{Clusters, DNS_PORT, deploy, name_server};
use crate::commands::arguments::Global;
use crate::commands::deploy::RouterAccess;
use crate::commands::heading;
use crate::console::progress::Progress;
use crate::lifecycle::Error;
use crate::platform::local::store::Store;
use crate::platform::transport::Transport;
use crate::router::dns::zone::Zone;
use crate::router::{UiNaming, metrics};
use crate::routes::follow::{Follow, follow_file, follow_local};
use crate::routes::serve::{BoundRouter, ServeOptions, Tls};
use crate::spec::names::is_dns_subdomain;

/// Run the web UI router: an HTTP and DNS server for the UI domain
///
/// router serves the web UIs itself, in the foreground or, with --deploy, in the cluster. To use another router or DNS server instead, such as
/// nginx, Traefik, an Ingress or Vulcand, write its configuration with `sparkha route`. For a browser on this machine, `sparkha ui` suffices.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  sparkha router --namespace data                                      for this machine
  sparkha router --tls-cert tls.crt --tls-key tls.key --users htpasswd  for users with a password
  sparkha router -A --open --dns 0.0.0.0 --address 192.0.2.7           for everyone, with DNS
  sparkha router --local --port 8000
  sparkha router --no-http --dns 192.0.2.7 --domain ui.example.com
  sparkha router --namespace data --deploy --image registry.example/sparkha:0.1 --open
  sparkha router --namespace data --deploy --image registry.example/sparkha:0.1 --service-type load-balancer \
    --mount-secret users --users /etc/sparkha/users/htpasswd")]
pub struct Arguments {
    /// Serve clusters of all namespaces
    #[arg(short = 'A', long, help_heading = heading::SELECTION)]
    all_namespaces: bool,
    /// Address to listen on; may be repeated [default: 127.0.0.1]
    ///
    /// With --users, --tokens or --open the default is 0.0.0.0.
    #[arg(long, value_name = "IP", help_heading = heading::HTTP)]
    listen: Vec<IpAddr>,
    /// Port for requests by host name; may be repeated [default: 80; TLS: 443]
    ///
    /// Spark's own ports 8080, 8081, 18080 and 4040 to 4056 are always served.
    #[arg(long = "port", value_name = "PORT", help_heading = heading::HTTP)]
    ports: Vec<u16>,
    /// How to connect to the pods
    #[arg(long, value_enum, default_value_t, help_heading = heading::HTTP)]
    reach: TransportArgument,
    /// Read routes from a file, as `sparkha route render --format json` prints them
    #[arg(long, value_name = "FILE", conflicts_with = "all_namespaces", help_heading = heading::SELECTION)]
    routes: Option<PathBuf>,
    /// Certificate chain (PEM)
    ///
    /// At SIGHUP the router reads this and all its other files again.
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = heading::HTTP)]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = heading::HTTP)]
    tls_key: Option<PathBuf>,
    /// Admit the users in this file (`htpasswd -B`)
    ///
    /// The file has names and bcrypt hashes, as `htpasswd -B` writes them.
    #[arg(long, value_name = "FILE", help_heading = heading::ACCESS)]
    users: Option<PathBuf>,
    /// Admit the bearer tokens in this file, one per line
    #[arg(long, value_name = "FILE", help_heading = heading::ACCESS)]
    tokens: Option<PathBuf>,
    /// Admit everyone who can connect: they see all web UIs
    #[arg(long, conflicts_with_all = ["users", "tokens"], help_heading = heading::ACCESS)]
    open: bool,
    #[command(flatten)]
    monitoring: metrics::MonitoringAddress,
    /// Log no requests
    #[arg(long, help_heading = heading::MONITORING)]
    pub no_access_log: bool,
    /// Answer DNS queries here; may be repeated [default port: 53]
    #[arg(long, value_name = "IP[:PORT]", value_parser = dns_address, help_heading = heading::DNS)]
    dns: Vec<SocketAddr>,
    /// UI domain to answer for; may be repeated
    #[arg(long, value_name = "NAME", value_parser = domain, default_value = "k8s", requires = "dns", help_heading = heading::DNS)]
    domain: Vec<Name>,
    /// Address in the answers; may be repeated [default: those of --dns]
    #[arg(long, value_name = "IP", requires = "dns", help_heading = heading::DNS)]
    address: Vec<IpAddr>,
    /// Serve DNS only; another router is at --address
    #[arg(long, requires = "dns", conflicts_with_all = ["listen", "ports", "routes", "tls_cert", "users", "tokens", "open", "metrics", "health", "all_namespaces", "deploy"], help_heading = heading::DNS)]
    no_http: bool,
    #[command(flatten)]
    deploy: deploy::DeployArguments,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TransportArgument {
    /// Direct inside the Kubernetes cluster, port-forward outside
    #[default]
    Auto,
    /// Connect to the pods' addresses
    Direct,
    /// Forward connections through the API server
    PortForward,
}

pub async fn run(global: &Global, arguments: Arguments) -> Result<(), Error> {
    if arguments.deploy.is_requested() {
        if arguments.deploy.is_deploy() {
            arguments.check_deployed()?;
        }
        let command = deploy::DeployedCommand {
            name: "sparkha-router",
            words: &["router"],
            own: Arguments::augment_args,
            all_namespaces: arguments.all_namespaces,
            router: Some(deploy::DeployedRouter {
                tls: arguments.tls_cert.is_some(),
                dns: !arguments.dns.is_empty(),
                access: arguments.access(),
            }),
        };
        return deploy::run(global, &arguments.deploy, command).await;
    }
    let dns = match &arguments.dns[..] {
        [] => None,
        at => Some((zone(&arguments)?, at.to_vec())),
    };
    let progress = Progress::new(global.quiet);
    let serving = match &dns {
        Some((_, at)) => format!("DNS for {} at {}", list(&arguments.domain), list(at)),
        None => "Routing; Ctrl-C ends it".into(),
    };
    if arguments.no_http {
        let bound = BoundRouter::bind(None, dns).await?;
        progress.done(&serving);
        bound.serve(None).await?;
        return Ok(());
    }
    let (all_namespaces, reach, routes) = (arguments.all_namespaces, arguments.reach, arguments.routes.clone());
    let bound = BoundRouter::bind(Some(options(arguments)?), dns).await?;
    let (follow, way) = match &routes {
        Some(file) => (follow_file(file)?, Transport::Direct),
        None => follow(global, &Clusters::connect(global).await?, all_namespaces, reach).await?,
    };
    progress.done(&serving);
    bound.serve(Some((&follow, way))).await?;
    Ok(())
}

impl Arguments {
    /// Refuses what a deployed router cannot do: its Service has fixed ports, and its pods have other addresses.
    fn check_deployed(&self) -> Result<(), Error> {
        let refused = |message: &str, help: &str| {
            Err(Error::Usage {
                message: message.into(),
                help: help.into(),
            })
        };
        let has_other_port = |address: &SocketAddr| address.port() != DNS_PORT;
        if !self.ports.is_empty() || !self.listen.is_empty() || self.dns.iter().any(has_other_port) {
            return refused(
                "--listen, --port and another port of --dns have no effect with --deploy: the Service has port 80, or 443 with --tls-cert, \
                 and 53 with --dns",
                "omit them",
            );
        }
        match !self.dns.is_empty() && self.address.is_empty() {
            true => no_address(),
            false => Ok(()),
        }
    }

    fn access(&self) -> RouterAccess {
        match (self.users.is_some() || self.tokens.is_some(), self.open) {
            (true, _) => RouterAccess::Authenticated,
            (false, true) => RouterAccess::Open,
            (false, false) => RouterAccess::Unspecified,
        }
    }
}

impl RouterAccess {
    /// Fails if a router is reachable by others and no access option is set.
    pub fn require_choice(self, where_others_are: &str) -> Result<(), Error> {
        match self {
            RouterAccess::Authenticated | RouterAccess::Open => Ok(()),
            RouterAccess::Unspecified => Err(Error::Usage {
                message: format!("{where_others_are} would show all web UIs to everyone"),
                help: "restrict access with --users or --tokens, or pass --open".into(),
            }),
        }
    }
}

fn options(arguments: Arguments) -> Result<ServeOptions, Error> {
    let access = arguments.access();
    let tls = arguments.tls_cert.zip(arguments.tls_key);
    let (naming, port) = match &tls {
        Some(_) => (UiNaming::Secure, 443),
        None => (UiNaming::AsLinked, 80),
    };
    let default_listen = match access {
        RouterAccess::Authenticated | RouterAccess::Open => Ipv4Addr::UNSPECIFIED,
        RouterAccess::Unspecified => Ipv4Addr::LOCALHOST,
    };
    let listen = or_default(arguments.listen, default_listen.into());
    if let Some(address) = listen.iter().find(|address| !address.is_loopback()) {
        access.require_choice(&format!("at {address} the router is reachable by others, and"))?;
        if access == RouterAccess::Authenticated && tls.is_none() {
            tracing::warn!("without --tls-cert and --tls-key, passwords and tokens are sent unencrypted");
        }
    }
    Ok(ServeOptions {
        listen,
        ports: or_default(arguments.ports, port),
        naming,
        tls: tls.map(|(chain, key)| Tls { chain, key }),
        users: arguments.users,
        tokens: arguments.tokens,
        monitoring: arguments.monitoring,
    })
}

fn or_default<T>(given: Vec<T>, default: T) -> Vec<T> {
    match given.is_empty() {
        true => vec![default],
        false => given,
    }
}

/// The routes, and the transport to the pods.
pub(super) async fn follow(
    global: &Global,
    clusters: &Clusters,
    all_namespaces: bool,
    reach: TransportArgument,
) -> Result<(Follow, Transport), Error> {
    let cluster = match clusters {
        Clusters::Kubernetes(cluster) => cluster,
        Clusters::Local(namespace) => {
            let follow = follow_local(Store::open()?, (!all_namespaces).then(|| namespace.clone()));
            return Ok((follow, Transport::Direct));
        }
    };
    let is_inside = global.kubeconfig.is_none()
        && global.context.is_none()
        && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        && std::env::var_os("KUBECONFIG").is_none();
    let way = match reach {
        TransportArgument::Direct => Transport::Direct,
        TransportArgument::Auto if is_inside => Transport::Direct,
        TransportArgument::Auto | TransportArgument::PortForward => Transport::PortForward(cluster.clone()),
    };
    Ok((Follow::kubernetes(cluster, all_namespaces, way.clone()).await?, way))
}

/// The DNS zone.
fn zone(arguments: &Arguments) -> Result<Zone, Error> {
    let mut addresses = arguments.address.clone();
    if addresses.is_empty() {
        let own = arguments.dns.iter().map(SocketAddr::ip);
        addresses.extend(own.filter(|address| !address.is_unspecified()));
    }
    if addresses.is_empty() {
        return no_address();
    }
    // Serial numbers wrap around (RFC 1982).
    let seconds = Timestamp::now().as_second() as u32;
    Zone::new(&arguments.domain, &addresses, seconds)
        .map_err(|_| super::bad_flag("--domain", "it is too long for names below it"))
}

fn no_address<T>() -> Result<T, Error> {
    Err(Error::Usage {
        message: "the address for the DNS answers is unknown".into(),
        help: "pass --address IP, the address at which browsers reach this router".into(),
    })
}

/// An address with or without a port.
fn dns_address(text: &str) -> Result<SocketAddr, String> {
    name_server(text).ok_or_else(|| "write it like 192.0.2.7, 192.0.2.7:5353, 2001:db8::7 or [2001:db8::7]:5353".into())
}

fn domain(text: &str) -> Result<Name, String> {
    match Name::from_ascii(text) {
        Ok(name) if is_dns_subdomain(text) => Ok(name),
        _ => Err("it is not a lower-case domain name".into()),
    }
}

fn list(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct RouterCommand {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn a_reachable_router_requires_an_access_option() {
        let listen = |line: &str| {
            let words = ["router"].into_iter().chain(line.split_whitespace());
            options(RouterCommand::parse_from(words).arguments)
                .ok()
                .map(|options| options.listen)
        };
        let (here, everywhere) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into());
        for line in ["", "--listen 127.0.0.1", "--listen 127.0.0.1 --open"] {
            assert_eq!(listen(line), Some(vec![here]), "{line}");
        }
        for line in [
            "--open",
            "--users htpasswd",
            "--tokens tokens",
            "--open --listen 0.0.0.0",
        ] {
            assert_eq!(listen(line), Some(vec![everywhere]), "{line}");
        }
        for line in [
            "--listen 0.0.0.0",
            "--listen 127.0.0.1 --listen 192.0.2.7",
            "--listen ::",
        ] {
            assert_eq!(listen(line), None, "{line}");
        }
    }

    #[test]
    fn the_port_is_optional() {
        for (text, address) in [
            ("192.0.2.7", "192.0.2.7:53"),
            ("192.0.2.7:5353", "192.0.2.7:5353"),
            ("2001:db8::7", "[2001:db8::7]:53"),
            ("[2001:db8::7]:5353", "[2001:db8::7]:5353"),
        ] {
            assert_eq!(dns_address(text), Ok(address.parse().unwrap()));
        }
        for wrong in ["", "53", ":53", "localhost", "192.0.2.7:", "192.0.2.7:99999"] {
            assert!(dns_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn invalid_domains_are_refused() {
        assert!(domain("ui.example.com").is_ok());
        for wrong in ["", ".", "K8s", "k8s.", "a..b", "*.k8s"] {
            assert!(domain(wrong).is_err(), "{wrong}");
        }
    }
}
