//! The HorizontalPodAutoscaler of the workers, if the cluster file has one. It uses `autoscaling/v1`, which all versions from 1.20 on serve
//! and which is sufficient.

use k8s_openapi::api::autoscaling::v1::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
};

use crate::model::labels::{Component, metadata};
use crate::spec::quantity::Cpu;
use crate::spec::{Autoscale, ClusterSpec};

pub fn autoscaler(spec: &ClusterSpec) -> Option<HorizontalPodAutoscaler> {
    let autoscale = spec.workers.autoscale?;
    let resources = &spec.workers.pod.resources;
    Some(HorizontalPodAutoscaler {
        metadata: metadata(spec, spec.name.workers_set(), Component::Worker),
        spec: HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".into()),
                kind: "StatefulSet".into(),
                name: spec.name.workers_set(),
            },
            min_replicas: Some(autoscale.min as i32),
            max_replicas: autoscale.max as i32,
            target_cpu_utilization_percentage: Some(of_request(autoscale, resources.cpu_limit, resources.cpu_request)),
        },
        ..Default::default()
    })
}

/// The autoscaler measures relative to the pods' requests, which may be less than their cores.
fn of_request(autoscale: Autoscale, limit: Cpu, request: Cpu) -> i32 {
    let percent = u128::from(autoscale.cpu_percent) * u128::from(limit.millis()) / u128::from(request.millis().max(1));
    i32::try_from(percent).unwrap_or(i32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_converted_from_cores_to_requests() {
        let autoscale = |cpu_percent| Autoscale {
            min: 1,
            max: 2,
            cpu_percent,
        };
        let (core, quarter) = (Cpu::from_cores(1), Cpu::from_millis(250));
        assert_eq!(of_request(autoscale(80), core, quarter), 320);
        assert_eq!(of_request(autoscale(80), core, core), 80);
        assert_eq!(of_request(autoscale(1), quarter, core), 1);
    }
}
