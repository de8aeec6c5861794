//! Observes a driver's pod through the watch: until it has started, its web UI, and its exit code.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::console::progress::Progress;
use crate::lifecycle::wait::Patience;
use crate::lifecycle::{Error, longer};
use crate::platform::kubernetes::drivers;
use crate::platform::kubernetes::watch::Watch;
use crate::platform::poll::poll_until;
use crate::state::Facts;
use crate::state::trouble::{RestartBaseline, troubles};

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The exit code of a driver that was terminated.
pub const TERMINATED: u8 = 143;

pub fn driver_in(watch: &Watch, driver: &str) -> Option<Pod> {
    watch.pods().into_iter().find(|pod| pod.name_any() == driver)
}

pub fn is_running(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .filter_map(|status| status.container_statuses.as_ref());
    let state = statuses.flatten().next().and_then(|container| container.state.as_ref());
    state.is_some_and(|state| state.running.is_some())
}

/// Waits until the driver's container runs, and reports what prevents that.
pub async fn until_started(watch: &Watch, driver: &str, timeout: Duration, progress: &Progress) -> Result<Pod, Error> {
    let mut patience = Patience::default();
    poll_until(LOOK_EVERY, timeout, async || {
        let pod = driver_in(watch, driver);
        if let Some(pod) = &pod {
            if is_running(pod) {
                return Ok(Break(pod.clone()));
            }
            if let Some(ended) = drivers::ended(pod) {
                let reason = ended
                    .message
                    .as_ref()
                    .or(ended.reason.as_ref())
                    .map_or("", String::as_str);
                return Err(Error::Driver {
                    message: format!(
                        "the driver ended before it received its files (exit code {}) {reason}",
                        ended.exit_code
                    ),
                    help: "pass --keep to keep its pod for inspection".into(),
                });
            }
            progress.part("Driver", &starting(pod));
            let facts = Facts {
                pods: vec![pod.clone()],
                ..Facts::default()
            };
            let mut observed = troubles(&facts, &watch.events(), &RestartBaseline::default());
            observed.retain(|trouble| trouble.subject == driver);
            for trouble in patience.news(&observed) {
                progress.warn(&trouble.to_string());
            }
            let hopeless = patience.exhausted(&observed);
            if !hopeless.is_empty() {
                return Err(Error::DoesNotStart {
                    troubles: hopeless.into_iter().map(|trouble| (trouble, String::new())).collect(),
                });
            }
        }
        Ok(Continue(Error::NotInTime {
            subject: "the driver has not started".into(),
            waited: timeout,
            missing: vec![
                pod.as_ref()
                    .map_or_else(|| format!("{driver} does not exist yet"), starting),
            ],
            help: longer(timeout),
        }))
    })
    .await
}

fn starting(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    match node {
        Some(node) => format!("{} is starting on {node}", pod.name_any()),
        None => format!("{} is waiting for a node", pod.name_any()),
    }
}

/// The driver's exit code, if Kubernetes reports it in time. Warns about other known causes of its end.
pub async fn exit_code(watch: &Watch, driver: &str, within: Duration, progress: &Progress) -> Option<u8> {
    let code = poll_until(LOOK_EVERY, within, async || {
        let pod = driver_in(watch, driver);
        if let Some(ended) = pod.as_ref().and_then(drivers::ended) {
            if ended.reason.as_deref() == Some("OOMKilled") {
                progress.warn("the driver ran out of memory and was killed; give it more with --driver-memory");
            }
            return Ok(Break(u8::try_from(ended.exit_code).unwrap_or(1)));
        }
        if pod.is_none() {
            progress.warn(&format!("the driver's pod {driver} was removed while the job ran"));
            return Ok(Break(TERMINATED));
        }
        Ok(Continue(()))
    });
    code.await.ok()
}
