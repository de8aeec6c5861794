//! Resolves names outside the cluster: those of this machine, and of servers in the cluster's configuration. Java finds a name only if it is
//! in the hosts file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::store::DesiredState;
use crate::model::kind::Kind;
use crate::platform::system::host_name;

/// Lines for this machine's names: its /etc/hosts, and its host name, which may be missing there.
pub fn of_this_machine() -> String {
    let text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty());
    let mut own: String = lines.map(|line| format!("{line}\n")).collect();
    let host = host_name();
    for name in ["localhost", &host] {
        if !name.is_empty() && !own.split_whitespace().any(|word| word == name) {
            own.push_str(&format!("127.0.0.1 {name}\n"));
        }
    }
    own
}

/// The servers in the cluster's configuration and their addresses.
#[derive(Default)]
pub struct ExternalNames(BTreeMap<String, BTreeSet<IpAddr>>);

impl ExternalNames {
    /// Resolves all names again. A name that does not resolve keeps its last addresses: Java has no other source.
    pub async fn refresh(&mut self, desired: &DesiredState) {
        let names = configured_hosts(desired);
        self.0.retain(|name, _| names.contains(name));
        for name in names {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            match found.map(|addresses| addresses.map(|address| address.ip()).collect()) {
                Ok(addresses) => {
                    self.0.insert(name, addresses);
                }
                Err(error) => tracing::debug!("{name} does not resolve: {error}"),
            }
        }
    }

    /// Lines for the hosts file.
    pub fn lines(&self) -> String {
        let lines = self.0.iter().flat_map(|(name, addresses)| {
            let line = move |address| format!("{address} {name}\n");
            addresses.iter().map(line)
        });
        lines.collect()
    }
}

/// The hosts in URLs, and ZooKeeper's servers.
fn configured_hosts(desired: &DesiredState) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for resource in &desired.resources {
        if matches!(resource.kind, Kind::ConfigMap | Kind::StatefulSet) {
            hosts_in(&resource.object.to_string(), &mut found);
        }
    }
    let own = desired.sets().into_iter().filter_map(|set| set.metadata.name);
    let own: Vec<_> = own.map(|set| format!("{set}-")).collect();
    found.retain(|name| !own.iter().any(|prefix| name.starts_with(prefix)));
    found
}

fn hosts_in(text: &str, found: &mut BTreeSet<String>) {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.');
    let mut add = |name: &str| {
        if name.parse::<IpAddr>().is_err() && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            found.insert(name.trim_end_matches('.').to_owned());
        }
    };
    for after in text.split("://").skip(1) {
        add(after.split(ends).next().unwrap_or_default());
    }
    for after in text.split("spark.deploy.zookeeper.url=").skip(1) {
        let servers = after.split(|c: char| c == '\\' || c == '"' || c.is_whitespace()).next();
        for server in servers.unwrap_or_default().split(',') {
            add(server.split(ends).next().unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hosts_of_urls_and_of_zookeeper() {
        let mut found = BTreeSet::new();
        let text = r#"a=http://minio.example:9000/x\nspark.deploy.zookeeper.url=zk-1.example:2181,10.0.0.1:2181\nb=s3a://bucket/x org.apache"#;
        hosts_in(text, &mut found);
        assert_eq!(
            found,
            ["bucket", "minio.example", "zk-1.example"].map(str::to_owned).into()
        );
    }
}
