//! Renders a [`ClusterSpec`] as Kubernetes objects: pure, deterministic and infallible. `sparkha render` prints them,
//! `sparkha create` applies them, and `manifests/` contains examples.

pub mod auth;
mod autoscaler;
mod budgets;
pub mod config;
pub mod deployed;
pub mod digest;
pub mod driver;
pub mod inventory;
mod metrics;
mod network_policies;
pub mod own_driver;
pub mod paths;
pub mod pods;
pub mod protection;
pub mod role;
mod services;
pub mod teardown_script;
pub mod workloads;
pub mod znodes;

use inventory::Inventory;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::kind::Kind;
use crate::model::labels;
use crate::spec::{Authentication, ClusterSpec};

/// One object, ready to be applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    pub kind: Kind,
    pub name: String,
    pub object: Value,
}

/// A cluster's objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// Lists the objects.
    pub inventory: Inventory,
    /// In the order of applying (see [`Kind`]), without the inventory's own ConfigMap.
    pub objects: Vec<Resource>,
}

impl Rendered {
    /// These objects with an inventory that lists them.
    pub fn of(spec: &ClusterSpec, objects: Vec<Resource>) -> Self {
        Self {
            inventory: Inventory::of(spec, &objects),
            objects,
        }
    }

    /// The inventory's ConfigMap.
    pub fn config_map(&self, spec: &ClusterSpec) -> Resource {
        resource(Kind::ConfigMap, &self.inventory.config_map(spec))
    }

    /// All objects, the inventory's ConfigMap first.
    pub fn all(mut self, spec: &ClusterSpec) -> Vec<Resource> {
        self.objects.insert(0, self.config_map(spec));
        self.objects
    }
}

/// Renders all objects of a cluster.
pub fn render(spec: &ClusterSpec) -> Rendered {
    let config = config::config_map(spec);
    let mut all = vec![resource(Kind::ConfigMap, &config)];
    all.extend(resources(Kind::Secret, auth::secret(spec)));
    all.push(service_account(spec));
    all.extend(resources(Kind::Service, services::services(spec)));
    all.extend(resources(Kind::NetworkPolicy, network_policies::network_policies(spec)));
    all.extend(resources(Kind::PodDisruptionBudget, budgets::budgets(spec)));
    all.extend(resources(Kind::PodMonitor, metrics::pod_monitors(spec)));
    all.extend(resources(Kind::StatefulSet, workloads::stateful_sets(spec, &config)));
    all.extend(resources(Kind::HorizontalPodAutoscaler, autoscaler::autoscaler(spec)));
    Rendered::of(spec, all)
}

/// The objects of one component and its configuration, without network policy and secrets: these admit only the rest of the cluster, and a
/// separate component serves other clients.
pub fn only(spec: &ClusterSpec, component: labels::Component) -> Vec<Resource> {
    let spec = &ClusterSpec {
        authentication: Authentication::Off,
        ..spec.clone()
    };
    let of_part = |resource: &Resource| {
        let labels = &resource.object["metadata"]["labels"];
        (labels[labels::COMPONENT] == component.as_str() && resource.kind != Kind::NetworkPolicy)
            || (resource.kind == Kind::ConfigMap && resource.name == spec.name.conf())
            || resource.kind == Kind::ServiceAccount
    };
    render(spec).objects.into_iter().filter(of_part).collect()
}

fn service_account(spec: &ClusterSpec) -> Resource {
    let account = k8s_openapi::api::core::v1::ServiceAccount {
        metadata: labels::metadata(spec, spec.name.service_account(), labels::Component::Cluster),
        // Pods do not connect to the API server.
        automount_service_account_token: Some(false),
        ..Default::default()
    };
    resource(Kind::ServiceAccount, &account)
}

fn resources<T: Serialize>(kind: Kind, typed: impl IntoIterator<Item = T>) -> impl Iterator<Item = Resource> {
    typed.into_iter().map(move |typed| resource(kind, &typed))
}

/// Pairs a typed object with its kind and name.
fn resource<T: Serialize>(kind: Kind, typed: &T) -> Resource {
    // Serialising k8s-openapi's types cannot fail: they hold only strings, numbers, lists and string-keyed maps.
    let object = serde_json::to_value(typed).unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Resource { kind, name, object }
}
