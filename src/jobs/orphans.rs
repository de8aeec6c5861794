//! Drivers whose application the leader does not know. A leader that recovers takes an application whose driver does not answer within
//! `spark.deploy.recoveryTimeout` for finished, and does not tell the driver, which then waits for executors for ever.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::clients::spark::{self};
use crate::model::reports::MasterReport;
use crate::platform::leader::Leader;
use crate::platform::observer::Reach;

/// How long a driver's web UI may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// A driver that runs, and its application, of which the leader knows nothing or that it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub driver: String,
    pub application: String,
}

impl Orphan {
    pub fn message(&self) -> String {
        let Self { driver, application } = self;
        format!(
            "the driver {driver} runs, but the leader does not know its application {application}: it did not answer a new leader within \
             spark.deploy.recoveryTimeout, and gets no executors any more"
        )
    }

    /// What happened, and what to do.
    pub fn warning(&self) -> String {
        format!("{}; {}", self.message(), self.help())
    }

    pub fn help(&self) -> String {
        format!(
            "end it with `sparkha jobs --kill {}`, and submit the job again",
            self.driver
        )
    }
}

/// Where a running driver's web UI is.
#[derive(Clone, Debug, PartialEq)]
pub struct DriverUi {
    /// Name of the driver.
    pub driver: String,
    pub pod: Pod,
    pub port: u16,
}

impl DriverUi {
    /// The web UI of a process of this machine.
    pub fn local(driver: &str, address: std::net::IpAddr, port: u16) -> Self {
        let status = PodStatus {
            pod_ip: Some(address.to_string()),
            ..PodStatus::default()
        };
        Self {
            driver: driver.to_owned(),
            pod: Pod {
                status: Some(status),
                ..Pod::default()
            },
            port,
        }
    }

    /// The application that its driver has at this moment. `None`: it has none, does not answer, or has no web UI.
    async fn application<R: Reach>(&self, reach: &R) -> Option<String> {
        let asking = async {
            let stream = reach.open(&self.pod, self.port).await.ok()?;
            spark::application_of_driver(stream).await.ok().flatten()
        };
        tokio::time::timeout(ANSWER_TIMEOUT, asking).await.ok().flatten()
    }
}

/// The orphans among running drivers. `uis` are those of drivers that no active application is known to belong to.
///
/// A driver's web UI ends before its application does. So an application that the web UI has before and after the leader was asked was there in between.
pub async fn orphans<R: Reach + Clone>(leader: &mut Leader<R>, masters: Vec<Pod>, uis: Vec<DriverUi>) -> Vec<Orphan> {
    let reach = &leader.way.clone();
    let before = futures::future::join_all(uis.into_iter().map(async |ui| {
        let application = ui.application(reach).await?;
        Some((ui, application))
    }));
    let before: Vec<_> = before.await.into_iter().flatten().collect();
    if before.is_empty() {
        return vec![];
    }
    let Some((_, report)) = leader.report(masters).await else {
        return vec![];
    };
    let unknown = before
        .into_iter()
        .filter(|(_, application)| !is_active(&report, application));
    let orphans = futures::future::join_all(unknown.map(async |(ui, application)| {
        let still = ui.application(reach).await.as_ref() == Some(&application);
        still.then_some(Orphan {
            driver: ui.driver,
            application,
        })
    }));
    orphans.await.into_iter().flatten().collect()
}

fn is_active(report: &MasterReport, application: &str) -> bool {
    report.activeapps.iter().any(|app| app.id == application)
}
