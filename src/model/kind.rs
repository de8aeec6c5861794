//! The kinds of Kubernetes objects that sparkha creates, in the order in which it applies them: dependencies come
//! first. One table serves rendering, applying, permissions, pruning and teardown.

use kube::core::{ApiResource, GroupVersionKind};
use serde::{Deserialize, Serialize};

/// A kind that sparkha creates, changes and deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    // The inventory is a ConfigMap. It is applied first, so that teardown finds all objects even if create is interrupted.
    ConfigMap,
    // Pods mount it, and wait until it exists.
    Secret,
    // The API server refuses pods whose ServiceAccount does not exist.
    ServiceAccount,
    // Service names must resolve before the first JVM starts: a JVM caches a failed lookup for 10 s.
    Service,
    // Pods created before their policy accept all connections for a moment.
    NetworkPolicy,
    // Pods created before their budget are unprotected for a moment.
    PodDisruptionBudget,
    // The Prometheus Operator's.
    PodMonitor,
    // It starts the pods, so all their dependencies are applied before it.
    StatefulSet,
    // Removed before the workers, because it would otherwise change their number.
    HorizontalPodAutoscaler,
}

impl Kind {
    /// All kinds, in the order of applying.
    pub const ALL: [Kind; 9] = [
        Kind::ConfigMap,
        Kind::Secret,
        Kind::ServiceAccount,
        Kind::Service,
        Kind::NetworkPolicy,
        Kind::PodDisruptionBudget,
        Kind::PodMonitor,
        Kind::StatefulSet,
        Kind::HorizontalPodAutoscaler,
    ];

    /// API group (the core group is the empty string), name in manifests, and resource name in URLs and roles.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::ConfigMap => ("", "ConfigMap", "configmaps"),
            Kind::Secret => ("", "Secret", "secrets"),
            Kind::ServiceAccount => ("", "ServiceAccount", "serviceaccounts"),
            Kind::Service => ("", "Service", "services"),
            Kind::NetworkPolicy => ("networking.k8s.io", "NetworkPolicy", "networkpolicies"),
            Kind::PodDisruptionBudget => ("policy", "PodDisruptionBudget", "poddisruptionbudgets"),
            Kind::PodMonitor => ("monitoring.coreos.com", "PodMonitor", "podmonitors"),
            Kind::StatefulSet => ("apps", "StatefulSet", "statefulsets"),
            Kind::HorizontalPodAutoscaler => ("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
        }
    }

    /// Name in manifests.
    pub const fn name(self) -> &'static str {
        self.names().1
    }

    /// API group; the core group is the empty string.
    pub const fn group(self) -> &'static str {
        self.names().0
    }

    /// Resource name in URLs and roles.
    pub const fn plural(self) -> &'static str {
        self.names().2
    }

    /// The kube client's description of the kind.
    pub fn api_resource(self) -> ApiResource {
        let gvk = GroupVersionKind::gvk(self.group(), "v1", self.name());
        ApiResource::from_gvk_with_plural(&gvk, self.plural())
    }

    /// Whether the kind is optional: omitted with a notice if the API server does not serve it.
    pub const fn is_optional(self) -> bool {
        self.absence().is_some()
    }

    /// The notice for an optional kind that the API server does not serve.
    pub const fn absence(self) -> Option<&'static str> {
        match self {
            Kind::PodDisruptionBudget => Some("Kubernetes 1.21 and later serve it"),
            Kind::PodMonitor => {
                Some("the Prometheus Operator installs it; other Prometheus servers can use the pods' annotations")
            }
            Kind::ConfigMap
            | Kind::Secret
            | Kind::ServiceAccount
            | Kind::Service
            | Kind::NetworkPolicy
            | Kind::StatefulSet
            | Kind::HorizontalPodAutoscaler => None,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
