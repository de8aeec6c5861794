//! The kinds of Kubernetes objects that sparkha makes, in the order in which they are applied: what a later kind needs
//! comes before it. One table serves rendering, applying, permissions, pruning and teardown.

use kube::core::{ApiResource, GroupVersionKind};
use serde::{Deserialize, Serialize};

/// A kind that sparkha creates, changes and deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    // The inventory is a ConfigMap. It goes first, so that teardown finds everything even if create dies after it.
    ConfigMap,
    // Pods mount it, and wait for it.
    Secret,
    // Pods name their ServiceAccount, and are refused without it.
    ServiceAccount,
    // Service names must resolve before the first JVM asks for them: a JVM remembers a failed look-up for 10 s.
    Service,
    // Pods that come before their policy are open to everyone for a moment.
    NetworkPolicy,
    // A budget that comes after its pods leaves them unprotected for a moment.
    PodDisruptionBudget,
    // The Prometheus Operator's.
    PodMonitor,
    // It starts the pods, so all that they need comes before it.
    StatefulSet,
    // Removed before the workers, whose number it would go on changing.
    HorizontalPodAutoscaler,
}

impl Kind {
    /// All of them, in the order in which they are applied.
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

    /// The name used in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::ConfigMap => "ConfigMap",
            Kind::Secret => "Secret",
            Kind::ServiceAccount => "ServiceAccount",
            Kind::Service => "Service",
            Kind::NetworkPolicy => "NetworkPolicy",
            Kind::PodDisruptionBudget => "PodDisruptionBudget",
            Kind::PodMonitor => "PodMonitor",
            Kind::StatefulSet => "StatefulSet",
            Kind::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        }
    }

    /// API group; the core group is the empty string.
    pub const fn group(self) -> &'static str {
        match self {
            Kind::ConfigMap | Kind::Secret | Kind::ServiceAccount | Kind::Service => "",
            Kind::NetworkPolicy => "networking.k8s.io",
            Kind::PodDisruptionBudget => "policy",
            Kind::PodMonitor => "monitoring.coreos.com",
            Kind::StatefulSet => "apps",
            Kind::HorizontalPodAutoscaler => "autoscaling",
        }
    }

    /// The resource name used in URLs and roles.
    pub const fn plural(self) -> &'static str {
        match self {
            Kind::ConfigMap => "configmaps",
            Kind::Secret => "secrets",
            Kind::ServiceAccount => "serviceaccounts",
            Kind::Service => "services",
            Kind::NetworkPolicy => "networkpolicies",
            Kind::PodDisruptionBudget => "poddisruptionbudgets",
            Kind::PodMonitor => "podmonitors",
            Kind::StatefulSet => "statefulsets",
            Kind::HorizontalPodAutoscaler => "horizontalpodautoscalers",
        }
    }

    /// How the kube client addresses it.
    pub fn api_resource(self) -> ApiResource {
        let gvk = GroupVersionKind::gvk(self.group(), "v1", self.name());
        ApiResource::from_gvk_with_plural(&gvk, self.plural())
    }

    /// True for what a cluster can do without: left out, with a word about it, where the server does not serve it.
    pub const fn is_optional(self) -> bool {
        self.absence().is_some()
    }

    /// What to say where a kind is not served that a cluster can do without.
    pub const fn absence(self) -> Option<&'static str> {
        match self {
            Kind::PodDisruptionBudget => Some("Kubernetes 1.21 and later do"),
            Kind::PodMonitor => {
                Some("the Prometheus Operator brings it; annotations of the pods say the same to other Prometheuses")
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
