//! Reads the only container of a pod's spec.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};

/// The pod's only container.
pub fn container_of(pod: &Pod) -> Option<&Container> {
    pod.spec.as_ref()?.containers.first()
}

/// The pod's grace period: 30 s by default, as in Kubernetes.
pub fn grace_of(pod: &Pod) -> Duration {
    let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    Duration::from_secs(seconds.unwrap_or(30).max(0) as u64)
}
