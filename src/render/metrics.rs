//! Metrics for Prometheus: Spark's properties, annotations for discovery, and PodMonitors for the Prometheus Operator, whose kind is
//! optional.

use serde_json::{Value, json};

use crate::model::labels::{COMPONENT, Component, INSTANCE, identity, metadata};
use crate::model::ports::{CONNECT_UI_PORT, MASTER_UI_PORT, WORKER_UI_PORT};
use crate::spec::ClusterSpec;

/// Without the trailing slash, Spark responds with a redirect.
const MASTER: &str = "/metrics/master/prometheus/";
const APPLICATIONS: &str = "/metrics/applications/prometheus/";
const OWN: &str = "/metrics/prometheus/";
/// A driver's page about its executors.
const EXECUTORS: &str = "/metrics/executors/prometheus/";

/// Properties for daemons and drivers. A master has two sources of metrics, which need different paths.
pub fn properties() -> impl Iterator<Item = (String, String)> {
    let path = |text: &str| text.trim_end_matches('/').to_owned();
    [
        (
            "spark.metrics.conf.*.sink.prometheusServlet.class",
            "org.apache.spark.metrics.sink.PrometheusServlet".to_owned(),
        ),
        ("spark.metrics.conf.*.sink.prometheusServlet.path", path(OWN)),
        ("spark.metrics.conf.master.sink.prometheusServlet.path", path(MASTER)),
        (
            "spark.metrics.conf.applications.sink.prometheusServlet.path",
            path(APPLICATIONS),
        ),
        ("spark.ui.prometheus.enabled", "true".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
}

/// Annotations of a component's pods: by convention, one port and one path.
pub fn annotations(spec: &ClusterSpec, component: Component) -> Vec<(String, String)> {
    let (port, path) = match component {
        _ if spec.metrics.is_none() => return vec![],
        Component::Master => (MASTER_UI_PORT, MASTER),
        Component::Worker => (WORKER_UI_PORT, OWN),
        Component::Driver | Component::Connect => (CONNECT_UI_PORT, OWN),
        Component::Cluster | Component::ZooKeeper | Component::History => return vec![],
    };
    [
        ("scrape", "true".to_owned()),
        ("port", port.to_string()),
        ("path", path.to_owned()),
    ]
    .map(|(key, value)| (format!("prometheus.io/{key}"), value))
    .into()
}

/// A PodMonitor for each set of paths. sparkha does not manage the users' own drivers; the PodMonitor finds those with a port named `ui`.
pub fn pod_monitors(spec: &ClusterSpec) -> Vec<Value> {
    if !spec.metrics.is_some_and(|metrics| metrics.pod_monitor) {
        return vec![];
    }
    let monitor = |component: Component, selector: Value, paths: &[&str]| {
        let name = component.object_name(&spec.name);
        let endpoints: Vec<_> = paths.iter().map(|path| json!({"port": "ui", "path": path})).collect();
        json!({
            "apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": metadata(spec, name, component),
            "spec": {"selector": selector, "podMetricsEndpoints": endpoints},
        })
    };
    let of = |component| json!({"matchLabels": identity(spec, component)});
    let drivers = json!({
        "matchLabels": {INSTANCE: spec.name.as_str()},
        "matchExpressions": [{
            "key": COMPONENT, "operator": "In", "values": [Component::Driver.as_str(), Component::Connect.as_str()],
        }],
    });
    vec![
        monitor(Component::Master, of(Component::Master), &[MASTER, APPLICATIONS]),
        monitor(Component::Worker, of(Component::Worker), &[OWN]),
        monitor(Component::Driver, drivers, &[OWN, EXECUTORS]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kind::Kind;
    use crate::render::render;
    use crate::spec::resolve::{Source, resolve};

    fn objects(text: &str, kind: Kind) -> Vec<Value> {
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let objects = render(&spec)
            .objects
            .into_iter()
            .filter(|resource| resource.kind == kind);
        objects.map(|resource| resource.object).collect()
    }

    #[test]
    fn pods_are_annotated_with_the_port_and_path_of_their_metrics() {
        let found = objects("metrics: true\nconnect: true\nhistory: true\n", Kind::StatefulSet);
        let places: Vec<_> = found
            .iter()
            .map(|set| {
                let annotations = &set["spec"]["template"]["metadata"]["annotations"];
                let said = |key: &str| {
                    annotations[format!("prometheus.io/{key}")]
                        .as_str()
                        .unwrap_or("-")
                        .to_owned()
                };
                format!(
                    "{} {} {} {}",
                    set["metadata"]["name"].as_str().unwrap(),
                    said("scrape"),
                    said("port"),
                    said("path")
                )
            })
            .collect();
        assert_eq!(
            places,
            [
                "spark-zookeeper - - -",
                "spark-master true 8080 /metrics/master/prometheus/",
                "spark-worker true 8081 /metrics/prometheus/",
                "spark-history - - -",
                "spark-connect true 4040 /metrics/prometheus/",
            ]
        );
        assert!(objects("metrics: true\n", Kind::PodMonitor).is_empty());
        assert!(objects("metrics: {podMonitor: true}\n", Kind::PodMonitor).len() == 3);
    }

    #[test]
    fn pod_monitors_name_ports_that_pods_have() {
        let text = "metrics: {podMonitor: true}\nconnect: true\n";
        let sets = objects(text, Kind::StatefulSet);
        for monitor in objects(text, Kind::PodMonitor) {
            let values = &monitor["spec"]["selector"]["matchExpressions"][0]["values"][1];
            let label = &monitor["spec"]["selector"]["matchLabels"][COMPONENT];
            let component = if label.is_null() { values } else { label };
            let pod = |set: &&Value| set["spec"]["template"]["metadata"]["labels"][COMPONENT] == *component;
            let set = sets.iter().find(pod).unwrap();
            let ports = set["spec"]["template"]["spec"]["containers"][0]["ports"]
                .as_array()
                .unwrap();
            for endpoint in monitor["spec"]["podMetricsEndpoints"].as_array().unwrap() {
                assert!(ports.iter().any(|port| port["name"] == endpoint["port"]), "{monitor}");
            }
        }
    }
}
