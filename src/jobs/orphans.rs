//! Finds drivers whose application the leader does not know. A recovering leader marks an application as finished if
//! its driver does not respond within `spark.deploy.recoveryTimeout`, and does not notify the driver, which then waits
//! for executors forever.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::clients::spark;
use crate::platform::leader::Leader;
use crate::platform::transport::Transport;

/// Timeout of a driver's web UI.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// A running driver with an application that the leader does not know or lists as ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub driver: String,
    pub application: String,
}

impl Orphan {
    pub fn message(&self) -> String {
        let Self { driver, application } = self;
        format!(
            "the driver {driver} runs, but the leader does not know its application {application}: it did not respond to a new leader within \
             spark.deploy.recoveryTimeout and gets no more executors"
        )
    }

    /// The message and the hint.
    pub fn warning(&self) -> String {
        format!("{}; {}", self.message(), self.help())
    }

    pub fn help(&self) -> String {
        format!(
            "kill it with `sparkha jobs --kill {}` and submit the job again",
            self.driver
        )
    }
}

/// The web UI of a running driver.
#[derive(Clone, Debug, PartialEq)]
pub struct DriverUi {
    /// Name of the driver.
    pub driver: String,
    pub pod: Pod,
    pub port: u16,
}

impl DriverUi {
    /// The current application of the driver. `None` if it has none, does not respond, or has no web UI.
    async fn application(&self, transport: &Transport) -> Option<String> {
        let asking = async {
            let stream = transport.open(&self.pod, self.port).await.ok()?;
            spark::application_of_driver(stream).await.ok().flatten()
        };
        tokio::time::timeout(ANSWER_TIMEOUT, asking).await.ok().flatten()
    }
}

/// The orphans among running drivers. `uis` are those of drivers without a known active application.
///
/// A driver's web UI stops before its application ends. An application that the web UI reports before and after the
/// leader was queried therefore existed in between.
pub async fn orphans(leader: &mut Leader, masters: Vec<Pod>, uis: Vec<DriverUi>) -> Vec<Orphan> {
    let transport = &leader.transport.clone();
    let before = futures::future::join_all(uis.into_iter().map(async |ui| {
        let application = ui.application(transport).await?;
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
        .filter(|(_, application)| report.activeapps.iter().all(|app| app.id != *application));
    let orphans = futures::future::join_all(unknown.map(async |(ui, application)| {
        let still = ui.application(transport).await.as_ref() == Some(&application);
        still.then_some(Orphan {
            driver: ui.driver,
            application,
        })
    }));
    orphans.await.into_iter().flatten().collect()
}
