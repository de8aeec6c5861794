//! Queries one master repeatedly for whether it leads, and finds the leader from the reports of all.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::clients::spark::{self, MasterUi};
use crate::model::ports::MASTER_UI_PORT;
use crate::model::reports::MasterStatus;
use crate::platform::transport::Transport;
use crate::routes::follow::Event;

/// How often a master is queried. After a failover, the former leader counts as leader no longer than this and one response.
const EVERY: Duration = Duration::from_millis(250);
/// How long a response may take before the master counts as silent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a leader may be silent before no master leads: a page that says so is better than one that waits.
const SILENT: Duration = Duration::from_secs(10);
/// Pause after a master could not be reached through the API server.
const PAUSE_FORWARDED: Duration = Duration::from_secs(1);

/// The last report of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It leads, and lists these drivers' web UIs.
    Leads(Vec<String>),
    /// It led in its last response, not long ago, and is silent now: a loaded machine, or a leader that hangs.
    LedUntilSilent(Vec<String>),
    /// It does not lead, or does not respond.
    DoesNotLead,
}

/// The pod that leads, and its drivers' web UIs. Of a leader that responds and one that is silent, the one that responds. Two responding leaders are
/// possible for a moment: then neither counts.
pub fn leader<'a>(answers: &[(&'a str, &'a Leadership)]) -> Option<(&'a str, &'a [String])> {
    let leading = answers.iter().filter_map(|(pod, leadership)| match leadership {
        Leadership::Leads(drivers) => Some((*pod, drivers.as_slice())),
        _ => None,
    });
    let silent = answers.iter().filter_map(|(pod, leadership)| match leadership {
        Leadership::LedUntilSilent(drivers) => Some((*pod, drivers.as_slice())),
        _ => None,
    });
    let mut led: Vec<_> = leading.collect();
    if led.is_empty() {
        led.extend(silent);
    }
    match led[..] {
        [leader] => Some(leader),
        _ => None,
    }
}

/// Queries until aborted, and reports changes.
pub async fn query(transport: Transport, host: String, uid: String, events: mpsc::Sender<Event>) {
    let mut ui = MasterUi::default();
    let mut drivers = Drivers::default();
    let mut last = None;
    let mut last_response = Instant::now();
    loop {
        let response = tokio::time::timeout(ANSWER_TIMEOUT, query_once(&transport, &host, &mut ui, &mut drivers)).await;
        let failed = !matches!(response, Ok(Ok(_)));
        let leadership = match response {
            Ok(Ok(leadership)) => {
                last_response = Instant::now();
                leadership
            }
            Ok(Err(reason)) => {
                tracing::debug!("{host}: {reason}");
                Leadership::DoesNotLead
            }
            Err(_) => match last.clone() {
                Some(Leadership::Leads(drivers) | Leadership::LedUntilSilent(drivers))
                    if last_response.elapsed() < SILENT =>
                {
                    Leadership::LedUntilSilent(drivers)
                }
                _ => Leadership::DoesNotLead,
            },
        };
        let pause = match transport {
            Transport::PortForward(_) if failed => PAUSE_FORWARDED,
            _ => EVERY,
        };
        if last.as_ref() != Some(&leadership) {
            last = Some(leadership.clone());
            let uid = uid.clone();
            if events.send(Event::Master { uid, leadership }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// The drivers' web UIs, requested again only when the applications change.
#[derive(Default)]
struct Drivers {
    applications: Vec<String>,
    uis: Vec<String>,
}

async fn query_once(
    transport: &Transport,
    host: &str,
    ui: &mut MasterUi,
    drivers: &mut Drivers,
) -> Result<Leadership, spark::Error> {
    let report = ui.report(transport.connect(host, MASTER_UI_PORT)).await?;
    if report.status != MasterStatus::Alive {
        return Ok(Leadership::DoesNotLead);
    }
    let applications: Vec<_> = report.activeapps.into_iter().map(|app| app.id).collect();
    if applications != drivers.applications {
        drivers.uis = match applications.is_empty() {
            true => vec![],
            false => {
                let page = ui.page(transport.connect(host, MASTER_UI_PORT)).await?;
                page.driver_uis.into_iter().map(|(_, ui)| ui).collect()
            }
        };
        drivers.uis.sort();
        drivers.applications = applications;
    }
    Ok(Leadership::Leads(drivers.uis.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_the_only_master_that_leads_or_the_one_that_responds() {
        let leads = Leadership::Leads(vec!["http://d:4040".into()]);
        let silent = Leadership::LedUntilSilent(vec![]);
        let no = Leadership::DoesNotLead;
        assert_eq!(leader(&[]), None);
        assert_eq!(leader(&[("a", &no), ("b", &no)]), None);
        assert_eq!(leader(&[("a", &no), ("b", &leads)]).unwrap().0, "b");
        assert_eq!(leader(&[("a", &leads), ("b", &leads)]), None);
        // It hangs, and another took over.
        assert_eq!(leader(&[("a", &silent), ("b", &leads)]).unwrap().1, ["http://d:4040"]);
        assert_eq!(leader(&[("a", &silent), ("b", &no)]).unwrap().0, "a");
        assert_eq!(leader(&[("a", &silent), ("b", &silent)]), None);
    }
}
