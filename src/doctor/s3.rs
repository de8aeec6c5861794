//! The S3-compatible store, as the history server sees it: it exits if it cannot read its folder, and its log shows why.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Check, Findings};
use crate::model::labels::Component;
use crate::platform::Platform;
use crate::spec::{ClusterSpec, EventLogs};
use crate::state::is_ready;
use crate::state::s3::{LOG_LINES, S3Failure, failure};

const NAME: &str = "S3";

/// What the log of a history server shows that is not ready.
#[derive(Debug, PartialEq)]
pub struct S3Report {
    pub pod: String,
    /// `None` if it is ready, or fails for another reason.
    pub failure: Option<(S3Failure, String)>,
    pub is_ready: bool,
}

/// Reads the logs of history servers that are not ready.
pub async fn reports(platform: &dyn Platform, pods: &[Pod]) -> Vec<S3Report> {
    let mut reports = Vec::new();
    let is_history = |pod: &&Pod| Component::of(pod.labels()) == Some(Component::History);
    for pod in pods.iter().filter(is_history) {
        let is_ready = is_ready(pod);
        let log = match is_ready {
            true => String::new(),
            false => platform.last_log(pod, LOG_LINES).await,
        };
        reports.push(S3Report {
            pod: pod.name_any(),
            failure: failure(&log),
            is_ready,
        });
    }
    reports
}

/// What the logs show. Otherwise only a history server with event logs in the store is judged: nothing else of a cluster reads it by itself.
pub fn judge(spec: &ClusterSpec, reports: &[S3Report]) -> Vec<Check> {
    let mut findings = Findings::of(NAME);
    for S3Report { pod, failure, .. } in reports {
        if let Some((failure, line)) = failure {
            findings.fail(format!("{pod}: {}: {line}", failure.what()), failure.help());
        }
    }
    // Without the cluster file, doctor does not know where an existing cluster's event logs are.
    let Some(EventLogs::S3(url)) = spec.history.as_ref().map(|history| &history.event_logs) else {
        return findings.found;
    };
    match reports.iter().any(|report| report.is_ready) {
        true => findings.or_ok(format!("the history server reads {url}")),
        false => findings.or_skipped("the history server is not ready, and its log names no cause in the store"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;
    use crate::spec::resolve::{Source, resolve};

    #[test]
    fn only_a_history_server_with_event_logs_in_the_store_is_judged() {
        let spec = |text| resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let there = spec("s3: {}\nhistory: {eventLogs: 's3a://b/e'}\n");
        let report = |is_ready, failure: Option<(S3Failure, String)>| S3Report {
            pod: "spark-history-0".into(),
            failure,
            is_ready,
        };
        let refused = report(false, Some((S3Failure::Keys, "AccessDeniedException".into())));
        let found = judge(&there, std::slice::from_ref(&refused));
        assert_eq!((found.len(), found[0].status), (1, Status::Failed));
        assert_eq!(judge(&spec(""), &[refused]), found, "also without the cluster file");
        assert_eq!(
            found[0].observed,
            "spark-history-0: the S3-compatible store refuses access: AccessDeniedException"
        );
        assert_eq!(judge(&there, &[report(true, None)])[0].status, Status::Ok);
        assert_eq!(judge(&there, &[report(false, None)])[0].status, Status::Skipped);
        assert_eq!(judge(&spec("s3: {}\nhistory: true\n"), &[report(true, None)]), []);
    }
}
