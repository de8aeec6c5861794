//! Renders the hosts file with which Java resolves names (`-Djdk.net.hosts.file`). Java then uses no other source, so the file also holds the
//! names in this machine's /etc/hosts and the external names in the cluster's configuration. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;

/// The file's text. `external_lines` are lines of other names.
pub fn hosts(namespace: &str, services: &[Service], pods: &[Pod], external_lines: &str) -> String {
    let mut text = String::from("# Written by sparkha for Java's jdk.net.hosts.file.\n");
    for pod in pods {
        let Some(address) = address(pod) else { continue };
        let mut names = vec![pod.name_any()];
        if let Some(service) = pod.spec.as_ref().and_then(|spec| spec.subdomain.as_ref()) {
            names.extend(qualified(&format!("{}.{service}", pod.name_any()), namespace));
        }
        line(&mut text, address, &names);
    }
    for service in services {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone());
        let selector = selector.unwrap_or_default();
        let names = qualified(&service.name_any(), namespace);
        let selected = pods.iter().filter(|pod| is_selected(pod, &selector));
        for address in selected.filter_map(address) {
            line(&mut text, address, &names);
        }
    }
    text.push_str(external_lines);
    text
}

fn address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

fn is_selected(pod: &Pod, selector: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
}

/// The forms of a name that pods of this and of other namespaces use.
fn qualified(name: &str, namespace: &str) -> Vec<String> {
    let in_namespace = format!("{name}.{namespace}");
    let [svc, cluster_local] = ["svc", "svc.cluster.local"].map(|domain| format!("{in_namespace}.{domain}"));
    vec![name.to_owned(), in_namespace, svc, cluster_local]
}

fn line(text: &mut String, address: &str, names: &[String]) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{address} {}", names.join(" "));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_pods_services_and_external_names() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "zk-0", "labels": {"a": "b"}}, "spec": {"subdomain": "zk", "containers": []},
            "status": {"podIP": "127.64.0.1"},
        }))
        .unwrap();
        let without_address: Pod =
            serde_json::from_value(json!({"metadata": {"name": "zk-1", "labels": {"a": "b"}}})).unwrap();
        let service: Service =
            serde_json::from_value(json!({"metadata": {"name": "zk"}, "spec": {"selector": {"a": "b"}}})).unwrap();
        let everything: Service = serde_json::from_value(json!({"metadata": {"name": "none"}, "spec": {}})).unwrap();
        assert_eq!(
            hosts(
                "x",
                &[service, everything],
                &[pod, without_address],
                "127.0.0.1 localhost\n"
            ),
            "# Written by sparkha for Java's jdk.net.hosts.file.\n\
             127.64.0.1 zk-0 zk-0.zk zk-0.zk.x zk-0.zk.x.svc zk-0.zk.x.svc.cluster.local\n\
             127.64.0.1 zk zk.x zk.x.svc zk.x.svc.cluster.local\n\
             127.0.0.1 localhost\n"
        );
    }
}
