//! Queries the leading master about applications: its state, and what only its HTML page shows.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::clients::spark::{MasterPage, MasterUi};
use crate::model::labels::Component;
use crate::model::ports::MASTER_UI_PORT;
use crate::model::reports::{MasterReport, MasterStatus};
use crate::platform::observer::{Observer, PodFilter};
use crate::platform::poll::poll_until;
use crate::platform::transport::Transport;
use crate::state::Facts;

/// How long the page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Queries the leading master repeatedly.
pub struct Leader {
    pub transport: Transport,
    observer: Observer,
}

/// The leading master's state and page.
#[derive(Clone, Debug)]
pub struct LeaderReport {
    pub report: MasterReport,
    pub page: MasterPage,
}

impl Leader {
    pub fn new(transport: Transport) -> Self {
        Self {
            observer: Observer::new(transport.clone()),
            transport,
        }
    }

    /// The leading master among these pods and its state; `None` if none leads.
    pub async fn report(&mut self, mut pods: Vec<Pod>) -> Option<(Pod, MasterReport)> {
        pods.retain(|pod| Component::of(pod.labels()) == Some(Component::Master));
        let facts = self.observer.query(pods, vec![], PodFilter::Running).await;
        leading(facts)
    }

    /// As [`Leader::report`], with the page.
    pub async fn query(&mut self, pods: Vec<Pod>) -> Option<LeaderReport> {
        let (pod, report) = self.report(pods).await?;
        let page = tokio::time::timeout(PAGE_TIMEOUT, self.page(&pod)).await.ok().flatten();
        Some(LeaderReport {
            report,
            page: page.unwrap_or_default(),
        })
    }

    async fn page(&self, pod: &Pod) -> Option<MasterPage> {
        let connect = self.transport.open(pod, MASTER_UI_PORT);
        MasterUi::default().page(connect).await.ok()
    }

    /// Waits until an application no longer runs. False if it still runs after `within`.
    pub async fn until_gone(&mut self, application: &str, pods: impl Fn() -> Vec<Pod>, within: Duration) -> bool {
        let gone = poll_until(Duration::from_millis(200), within, async || {
            match self.report(pods()).await {
                Some((_, report)) if report.activeapps.iter().all(|app| app.id != application) => Ok(Break(())),
                _ => Ok(Continue(())),
            }
        });
        gone.await.is_ok()
    }
}

fn leading(facts: Facts) -> Option<(Pod, MasterReport)> {
    let reports = facts.masters.iter();
    let (name, report) = reports
        .filter_map(|(name, answer)| Some((name, answer.as_ref().ok()?)))
        .find(|(_, report)| report.status == MasterStatus::Alive)?;
    let pod = facts.pods.iter().find(|pod| pod.name_any() == *name)?;
    Some((pod.clone(), report.clone()))
}
