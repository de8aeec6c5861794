//! One file per command: its arguments, and one call.

pub mod arguments;
pub mod connect_url;
pub mod create;
mod deploy;
pub mod doctor;
pub mod failover;
pub mod heading;
pub mod import;
pub mod jobs;
pub mod list;
pub mod local;
pub mod logs;
pub mod render;
pub mod rotate_secret;
pub mod route;
pub mod router;
pub mod scale;
mod spec;
pub mod status;
pub mod submit;
pub mod teardown;
pub mod ui;
pub mod upgrade;
pub mod version;

use std::io::{BufRead, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use clap::builder::TypedValueParser;
use jiff::SignedDuration;

use self::arguments::Global;
use crate::console::hint;
use crate::lifecycle::{Error, generations};
use crate::platform::Platform;
use crate::platform::kubernetes::{Cluster, KubernetesPlatform, connect};
use crate::platform::local::LocalPlatform;
use crate::platform::local::store::Store;
use crate::platform::system;
use crate::spec::names::{ClusterName, Namespace, visible_lines};
use crate::spec::problem::{Problem, Problems};
use crate::spec::resolve::{MASTERS, MAX_WORKERS};

/// The clusters of a command: those of a Kubernetes cluster, or those of this machine.
enum Clusters {
    Kubernetes(Cluster),
    Local(Namespace),
}

impl Clusters {
    async fn connect(global: &Global) -> Result<Self, Error> {
        Ok(match global.local {
            true => Clusters::Local(local_namespace(global.namespace.as_deref())?),
            false => Clusters::Kubernetes(connected(global).await?),
        })
    }

    /// The namespace of the arguments, or the default one.
    fn namespace(&self) -> &Namespace {
        match self {
            Clusters::Kubernetes(cluster) => cluster.namespace(),
            Clusters::Local(namespace) => namespace,
        }
    }
}

/// The Kubernetes cluster of the arguments, for commands without a cluster file.
async fn connected(global: &Global) -> Result<Cluster, Error> {
    Ok(connect(&global.connect_options(named_namespace(global)?)).await?)
}

/// The namespace of the arguments.
fn named_namespace(global: &Global) -> Result<Option<Namespace>, Error> {
    let parsed = global.namespace.as_deref().map(Namespace::parse).transpose();
    parsed.map_err(|error| bad_flag("--namespace", &error.to_string()))
}

/// The namespace on this machine: that of the arguments or the file, or Kubernetes' default.
fn local_namespace(named: Option<&str>) -> Result<Namespace, Error> {
    Namespace::parse(named.unwrap_or("default")).map_err(|error| bad_flag("--namespace", &error.to_string()))
}

/// The cluster that the argument selects.
async fn named_cluster(global: &Global, name: Option<&str>) -> Result<Rc<dyn Platform>, Error> {
    let name = cluster_name(name)?;
    let platform: Rc<dyn Platform> = match global.local {
        true => {
            let namespace = local_namespace(global.namespace.as_deref())?;
            Rc::new(LocalPlatform::new(Store::open()?.cluster(&namespace, &name), None))
        }
        false => Rc::new(KubernetesPlatform::new(&connected(global).await?, &name)),
    };
    Ok(generations::find(platform).await?.platform)
}

/// The cluster's name from the argument. Subsequent hints contain it.
fn cluster_name(name: Option<&str>) -> Result<ClusterName, Error> {
    let name = name.unwrap_or(crate::spec::resolve::DEFAULT_NAME);
    let name = ClusterName::parse(name).map_err(|error| bad_flag("NAME", &error.to_string()))?;
    hint::update(|invocation| invocation.name = Some(name.to_string()));
    Ok(name)
}

fn bad_flag(flag: &'static str, message: &str) -> Error {
    Error::Input(Problems {
        file: String::new(),
        list: vec![Problem::flag(flag, message)],
    })
}

/// Ends the work at Ctrl-C or SIGTERM. No cleanup is needed: the next run continues the work.
async fn unless_interrupted<T>(work: impl Future<Output = Result<T, Error>>, next: &str) -> Result<T, Error> {
    let interrupted = interruption()?;
    tokio::select! {
        outcome = work => outcome,
        () = interrupted => Err(Error::Interrupted { next: next.into() }),
    }
}

/// What to do after an interruption.
const CONTINUE: &str = "run the same command again to continue";

/// Completes at Ctrl-C, SIGTERM or the end of the terminal.
fn interruption() -> Result<impl Future<Output = ()>, Error> {
    system::interruption().map_err(Error::io("listen for signals"))
}

/// Completes at Ctrl-C or SIGTERM.
fn termination() -> Result<impl Future<Output = ()>, Error> {
    system::termination().map_err(Error::io("listen for signals"))
}

/// The port of name servers.
const DNS_PORT: u16 = 53;

/// An address of a name server, with or without a port.
fn name_server(text: &str) -> Option<SocketAddr> {
    let with_port = |address: IpAddr| SocketAddr::new(address, DNS_PORT);
    text.parse().ok().or_else(|| text.parse().ok().map(with_port))
}

/// Asks for confirmation on a terminal, and refuses elsewhere.
fn confirm(consequence: &str, question: &str, help: &str) -> Result<(), Error> {
    let refused = |message: String| Error::Usage {
        message,
        help: help.into(),
    };
    if !std::io::stdin().is_terminal() {
        return Err(refused(format!("{consequence}; nothing was changed")));
    }
    let consequence = visible_lines(consequence);
    let mut stderr = std::io::stderr();
    let asked = write!(stderr, "{consequence}\n{question} [y/N] ").and_then(|()| stderr.flush());
    asked.map_err(Error::io("write to standard error"))?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(Error::io("read the answer"))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(refused("nothing was changed".into())),
    }
}

/// `90`, `90s`, `5m`, `1h` or `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let with_unit = match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("{text}s"),
        false => text.to_owned(),
    };
    let duration: Option<SignedDuration> = with_unit.parse().ok();
    let duration = duration.and_then(|duration| duration.try_into().ok());
    duration.ok_or_else(|| "write it like 90s, 5m or 1h".into())
}

/// A number of masters.
fn master_count() -> impl TypedValueParser<Value = u32> {
    whole_number(MASTERS)
}

/// A number of workers.
fn worker_count() -> impl TypedValueParser<Value = u32> {
    whole_number(0..=MAX_WORKERS)
}

/// A number of cores, at least 1.
fn core_count() -> impl TypedValueParser<Value = u32> {
    whole_number(1..=u32::MAX)
}

fn whole_number(range: RangeInclusive<u32>) -> impl TypedValueParser<Value = u32> {
    move |text: &str| {
        let number: i64 = text.parse().map_err(|_| "write a whole number, such as 2".to_owned())?;
        let number = u32::try_from(number).ok().filter(|number| range.contains(number));
        number.ok_or_else(|| match *range.end() {
            u32::MAX => format!("{text} is not at least {}", range.start()),
            end => format!("{text} is not in {}..={end}", range.start()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("m").is_err());
        assert!(duration("-5m").is_err());
        assert!(duration("99999999999999999999h").is_err());
        assert!(duration("5d").is_err());
        assert!(duration("").is_err());
    }
}
