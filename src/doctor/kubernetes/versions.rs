//! Whether all versions match: this sparkha and the one that made the cluster, and the Spark of its pods and of its drivers.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::facts::{Existing, joined};
use crate::doctor::{Check, Findings};
use crate::lifecycle::preflight::OTHER_SPARK;
use crate::lifecycle::versions::{Skew, of_sparkha};
use crate::spec::ClusterSpec;
use crate::spec::image::ImageReference;
use crate::spec::version::{is_same_feature_release, too_old_spark};

const NAME: &str = "versions";
const OWN: &str = env!("CARGO_PKG_VERSION");

pub fn judge(existing: &Existing, users: &[Pod]) -> Vec<Check> {
    let cluster = &existing.inventory.cluster;
    let mut findings = Findings::of(NAME);
    if let Some(Skew { message, help }) = of_sparkha(&existing.inventory) {
        findings.warn(message, help);
    }
    let images_of_pods = existing.observed.pods.iter().flat_map(images);
    let others: BTreeSet<_> = images_of_pods.filter(|image| *image != cluster.image).collect();
    if !others.is_empty() {
        let list: Vec<_> = others.into_iter().map(str::to_owned).collect();
        let (image, others) = (&cluster.image, joined(&list));
        let observed = format!("the cluster's image is {image}, and some of its pods have {others}");
        let hint = "a change is still in progress, or a StatefulSet was changed: `sparkha create --dry-run` shows what differs";
        findings.warn(observed, hint);
    }
    let of_drivers = users.iter().filter_map(|pod| of_driver(pod, &cluster.image));
    findings.found.extend(of_drivers);
    findings.or_ok(format!("sparkha {OWN} and one image, {}", cluster.image))
}

/// The Spark of the cluster file's image, if it is too old.
pub fn old_spark(spec: &ClusterSpec) -> Option<Check> {
    let too_old = spec.image.name.spark_version().and_then(too_old_spark)?;
    Some(Check::warning(NAME, too_old, OTHER_SPARK))
}

fn images(pod: &Pod) -> impl Iterator<Item = &str> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.filter_map(|container| container.image.as_deref())
}

/// A driver of another Spark version cannot talk to this cluster's masters and executors.
fn of_driver(pod: &Pod, cluster: &str) -> Option<Check> {
    let reference = |image: &str| image.parse::<ImageReference>().ok();
    let clusters = reference(cluster)?;
    let version = clusters.version()?;
    // Only a tag of the same repository is Spark's version.
    let is_other = |image: ImageReference| {
        let others = image.version();
        image.is_same_repository(&clusters) && others.is_some_and(|others| !is_same_feature_release(others, version))
    };
    let other = images(pod).find(|image| reference(image).is_some_and(is_other))?;
    let observed = format!("{} has {other}, and the cluster {cluster}", pod.name_any());
    let hint = "drivers need the cluster's own version of Spark: others fail with InvalidClassException or are refused";
    Some(Check::warning(NAME, observed, hint))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_driver_of_another_spark_is_reported() {
        let pod = |image: &str| -> Pod {
            let spec = json!({"containers": [{"name": "c", "image": image}]});
            serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": spec})).unwrap()
        };
        let cluster = "docker.io/apache/spark:4.3.0";
        assert!(of_driver(&pod("docker.io/apache/spark:3.5.1"), cluster).is_some());
        assert!(of_driver(&pod("docker.io/apache/spark:4.3.1"), cluster).is_none());
        assert!(of_driver(&pod("docker.io/apache/spark:latest"), cluster).is_none());
        assert!(of_driver(&pod("example/job:1.0.0"), cluster).is_none());
    }
}
