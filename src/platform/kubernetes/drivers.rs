//! The driver pods that sparkha creates: how they are recognised, cleaned up and terminated. No inventory lists them, because they are
//! short-lived. A bare pod belongs to sparkha if both its labels and its name say so.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Error;
use crate::model::labels::{COMPONENT, Component, cluster_selector};
use crate::model::pods::has_ended;
use crate::platform::DriverState;
use crate::platform::kubernetes::{Cluster, FIELD_MANAGER};
use crate::platform::system::host_name;
use crate::render::digest::short_digest;
use crate::render::driver::{DIGITS, INFIX, KEEP, cluster_of};
use crate::spec::names::ClusterName;

/// How long a driver that has ended stays for the submit that created it to read.
const RETENTION: SignedDuration = SignedDuration::from_mins(10);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long to wait for a driver's end: longer than the pod's own grace period.
const END_TIMEOUT: Duration = Duration::from_secs(45);

/// A unique name for a new driver: the cluster's name and a digest of host, time and process ID.
pub fn new_name(cluster: &ClusterName) -> String {
    let now = Timestamp::now().as_nanosecond();
    let host = host_name();
    let digest = short_digest([host.as_str(), &now.to_string(), &std::process::id().to_string()]);
    format!("{cluster}{INFIX}{}", &digest[..DIGITS])
}

/// The label selector of a cluster's drivers.
pub fn selector(cluster: &ClusterName) -> String {
    format!(
        "{},{COMPONENT}={}",
        cluster_selector(cluster),
        Component::Driver.as_str()
    )
}

/// The drivers that sparkha created for a cluster, among its pods.
pub fn among(pods: &[Pod], cluster: &ClusterName) -> Vec<DriverState> {
    let ours = pods
        .iter()
        .filter(|pod| Component::of(pod.labels()) == Some(Component::Driver) && is_ours(pod, cluster));
    // Ended drivers that are being deleted were removed by `jobs --kill`.
    let listed = ours.filter(|pod| ended(pod).is_none() || pod.metadata.deletion_timestamp.is_none());
    listed.map(state).collect()
}

fn state(pod: &Pod) -> DriverState {
    let end = ended(pod);
    let message = end.and_then(|end| end.message.as_deref()).unwrap_or_default();
    let applications = message.lines().filter(|line| line.starts_with("app-"));
    DriverState {
        pod: pod.clone(),
        ui_port: None,
        applications: applications.map(str::to_owned).collect(),
        ended: is_over(pod),
        exit_code: end.map(|end| end.exit_code),
    }
}

/// The driver pods that sparkha created for a cluster.
pub async fn list(cluster: &Cluster, name: &ClusterName) -> Result<Vec<Pod>, Error> {
    let mut pods = cluster.list_of::<Pod>(&selector(name)).await?;
    pods.retain(|pod| is_ours(pod, name));
    Ok(pods)
}

/// Whether sparkha created this pod, judging by its name and owners. A user's own pod with sparkha's labels does not count.
pub fn is_ours(pod: &Pod, cluster: &ClusterName) -> bool {
    cluster_of(&pod.name_any()) == Some(cluster.as_str()) && pod.owner_references().is_empty()
}

/// How the driver's container terminated; `None` while it has not.
pub fn ended(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.first()?.state.as_ref()?.terminated.as_ref()
}

/// Whether a driver's pod has finished. An evicted pod may have no container status.
pub fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    ended(pod).is_some() || has_ended(phase)
}

/// Whether a finished driver is left over: its submit was interrupted, and the driver is not marked to be kept.
fn is_left_over(pod: &Pod, now: Timestamp) -> bool {
    let kept = pod.annotations().contains_key(KEEP);
    let finished = ended(pod).and_then(|ended| ended.finished_at.as_ref());
    !kept && finished.is_some_and(|finished| now.duration_since(finished.0) > RETENTION)
}

/// Deletes finished drivers of interrupted submits.
pub async fn clean(cluster: &Cluster, name: &ClusterName) -> Result<(), Error> {
    let now = Timestamp::now();
    for pod in list(cluster, name).await? {
        if is_left_over(&pod, now) {
            tracing::info!("deleting driver {} of an interrupted submit", pod.name_any());
            cluster.delete_pod(&pod, None).await?;
        }
    }
    Ok(())
}

/// Annotates a driver's pod so that no other submit deletes it.
pub async fn keep(cluster: &Cluster, driver: &str) -> Result<(), Error> {
    let api = cluster.api::<Pod>();
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({"metadata": {"annotations": {KEEP: "true"}}}));
    let action = format!("change Pod {driver}");
    cluster.call(&action, || api.patch(driver, &params, &patch)).await?;
    Ok(())
}

/// Terminates a driver and deletes its pod. A pod that is already gone is no error.
pub async fn terminate(cluster: &Cluster, driver: &str) -> Result<(), Error> {
    cluster.delete_in(&cluster.api::<Pod>(), "Pod", driver, None).await
}

/// Waits until the API server reports that a driver has ended, or for `END_TIMEOUT`. A node may report late.
pub async fn wait_until_ended(cluster: &Cluster, driver: &str) -> Result<(), Error> {
    let api = cluster.api::<Pod>();
    let deadline = Instant::now() + END_TIMEOUT;
    let action = format!("read Pod {driver}");
    loop {
        let pod = cluster.call(&action, || api.get_opt(driver)).await?;
        if pod.is_none_or(|pod| ended(&pod).is_some()) || Instant::now() > deadline {
            return Ok(());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Terminates all drivers of a cluster.
pub async fn terminate_all(cluster: &Cluster, name: &ClusterName) -> Result<(), Error> {
    let pods = list(cluster, name).await?;
    futures::future::try_join_all(pods.iter().map(|pod| cluster.delete_pod(pod, None))).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_bare_pods_with_a_generated_name_count_as_sparkhas_drivers() {
        let cluster = ClusterName::parse("spark").unwrap();
        let ours = new_name(&cluster);
        assert!(
            ours.len() < 63 && is_ours(&pod(json!({"metadata": {"name": ours}})), &cluster),
            "{ours}"
        );
        for other in ["driver", "spark-driver-mine", "etl-driver-0123abcd"] {
            assert!(
                !is_ours(&pod(json!({"metadata": {"name": other}})), &cluster),
                "{other}"
            );
        }
        let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u"}]);
        let of_a_job = json!({"metadata": {"name": ours, "ownerReferences": owner}});
        assert!(!is_ours(&pod(of_a_job), &cluster));
    }

    #[test]
    fn a_driver_is_left_over_if_it_ended_long_ago_and_is_not_kept() {
        let ended = |annotations: serde_json::Value| {
            pod(json!({
                "metadata": {"name": "p", "annotations": annotations},
                "status": {"containerStatuses": [{
                    "name": "driver", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
                    "state": {"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:00:00Z"}},
                }]},
            }))
        };
        let then: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let later = then + Duration::from_secs(3600);
        assert!(is_left_over(&ended(json!({})), later));
        assert!(!is_left_over(&ended(json!({})), then + Duration::from_secs(9)));
        assert!(!is_left_over(&ended(json!({KEEP: "true"})), later));
        assert!(!is_left_over(&pod(json!({"metadata": {"name": "p"}})), later));
    }
}
