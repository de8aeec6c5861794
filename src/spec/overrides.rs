//! What flags say about the cluster.

use super::names::Alias;
#[cfg(test)]
use super::names::ClusterName;

/// What flags say; they win over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub name: Option<String>,
    /// No flag: the cluster is a later generation.
    pub alias: Option<Alias>,
    pub namespace: Option<String>,
    pub image: Option<String>,
    pub masters: Option<u32>,
    pub workers: Option<u32>,
    pub worker_cores: Option<u32>,
    pub worker_memory: Option<String>,
    /// A number, or `all`.
    pub default_cores: Option<String>,
    /// `host:port,…`, with `/chroot` at the end if there is one.
    pub zookeeper: Option<String>,
    pub ui_domain: Option<String>,
    /// A history server, with what the file says of it.
    pub history: bool,
    /// A Spark Connect server, with what the file says of it.
    pub connect: bool,
    /// Metrics, with what the file says of them.
    pub metrics: bool,
}

#[cfg(test)]
impl Overrides {
    /// A later generation of `etl`.
    pub fn generation(name: &str, active: bool) -> Self {
        let etl = ClusterName::parse("etl").unwrap();
        Self {
            name: Some(name.into()),
            alias: Some(Alias { name: etl, active }),
            ..Self::default()
        }
    }
}

/// The servers and the chroot of `host:port,…/chroot`.
pub fn external_of(text: &str) -> (Vec<String>, Option<String>) {
    let (servers, chroot) = match text.split_once('/') {
        Some((servers, chroot)) => (servers, Some(format!("/{chroot}"))),
        None => (text, None),
    };
    (servers.split(',').map(str::to_owned).collect(), chroot)
}
