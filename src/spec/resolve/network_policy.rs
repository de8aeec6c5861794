//! Peers admitted to the cluster's pods, in the format of Kubernetes' NetworkPolicies.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use serde_json::Value;

use super::Resolver;
use crate::spec::NetworkPolicy;
use crate::spec::file::NetworkPolicyFile;

impl Resolver {
    pub(super) fn network_policy(&mut self, file: NetworkPolicyFile) -> Option<NetworkPolicy> {
        let policy = NetworkPolicy {
            web_uis_from: self.peers("networkPolicy.webUisFrom", file.web_uis_from.unwrap_or_default()),
            drivers_from: self.peers("networkPolicy.driversFrom", file.drivers_from.unwrap_or_default()),
        };
        if file.enabled == Some(false) && policy != NetworkPolicy::default() {
            self.problem(
                "networkPolicy.enabled",
                "peers have no effect without network policies",
                "remove it, or the peers",
            );
        }
        file.enabled.unwrap_or(true).then_some(policy)
    }

    fn peers(&mut self, path: &str, values: Vec<Value>) -> Vec<NetworkPolicyPeer> {
        let mut peers = Vec::new();
        for (at, value) in values.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let field = "networkpolicy.spec.ingress.from";
            if let Some(peer) = self.passed_through(&path, value, field) {
                self.check_peer(&path, &peer);
                peers.push(peer);
            }
        }
        peers
    }

    /// Checks what the API server would refuse only after it created other objects.
    fn check_peer(&mut self, path: &str, peer: &NetworkPolicyPeer) {
        let has_selector = peer.namespace_selector.is_some() || peer.pod_selector.is_some();
        if has_selector == peer.ip_block.is_some() {
            self.problem(
                path,
                "a peer selects either pods or addresses",
                "set namespaceSelector, podSelector or both, or only ipBlock",
            );
        }
        for block in peer.ip_block.iter() {
            let except = block.except.iter().flatten();
            for cidr in std::iter::once(&block.cidr).chain(except) {
                if cidr.parse::<IpNet>().is_err() {
                    self.problem(
                        &format!("{path}.ipBlock"),
                        format!("`{cidr}` is not a range of addresses"),
                        "write it like 192.0.2.0/24",
                    );
                }
            }
        }
    }
}
