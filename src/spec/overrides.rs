//! Flags that override the cluster file.

use super::names::Alias;
#[cfg(test)]
use super::names::ClusterName;

/// Values of flags; they take precedence over the cluster file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub name: Option<String>,
    /// Not a flag: set for later generations.
    pub alias: Option<Alias>,
    pub namespace: Option<String>,
    pub image: Option<String>,
    pub masters: Option<u32>,
    pub workers: Option<u32>,
    pub worker_cores: Option<u32>,
    pub worker_memory: Option<String>,
    /// A number, or `all`.
    pub default_cores: Option<String>,
    /// `host:port,…`, optionally followed by `/chroot`.
    pub zookeeper: Option<String>,
    pub ui_domain: Option<String>,
    /// Run a history server, with the cluster file's settings.
    pub history: bool,
    /// Run a Spark Connect server, with the cluster file's settings.
    pub connect: bool,
    /// Expose metrics, with the cluster file's settings.
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
