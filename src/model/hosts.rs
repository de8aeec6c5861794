//! Host names of web UIs.

use std::net::IpAddr;

use crate::spec::names::{ClusterName, UiDomain};

/// `spark-<ip with dashes>.<namespace>.<domain>`: the routed host name of a pod, which `SPARK_PUBLIC_DNS` puts into Spark's own links.
pub fn pod_host(address: IpAddr, namespace: &str, domain: &UiDomain) -> String {
    let dashed = address.to_string().replace(['.', ':'], "-");
    format!("spark-{dashed}.{namespace}.{domain}").to_lowercase()
}

/// The routed host name of the leader's web UI, regardless of which master leads.
pub fn leader_host(cluster: &ClusterName, namespace: &str, domain: &UiDomain) -> String {
    format!("{cluster}-master.{namespace}.{domain}").to_lowercase()
}

/// The routed host name of the history server's web UI.
pub fn history_host(cluster: &ClusterName, namespace: &str, domain: &UiDomain) -> String {
    format!("{cluster}-history.{namespace}.{domain}").to_lowercase()
}
