//! Asks one master again and again whether it leads, and judges the answers of all.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::clients::spark::{self, MasterUi};
use crate::model::ports::MASTER_UI_PORT;
use crate::model::reports::MasterStatus;
use crate::platform::transport::Transport;
use crate::routes::follow::Event;

/// How often a master is asked. After a failover the old leader is taken for the leader no longer than this and one answer.
const EVERY: Duration = Duration::from_millis(250);
/// How long an answer may take before the master counts as silent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a leader may be silent before nobody leads: pages had better say so than wait for it.
const SILENT: Duration = Duration::from_secs(10);
/// How long to leave a master alone that could not be reached through the API server.
const PAUSE_FORWARDED: Duration = Duration::from_secs(1);

/// What a master's task has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It leads, and shows these drivers' web UIs.
    Leads(Vec<String>),
    /// It led when it answered last, not long ago, and says nothing now: a loaded machine, or a leader that hangs.
    LedWhenItAnswered(Vec<String>),
    /// It does not lead, or nobody is there.
    DoesNotLead,
}

/// The pod that leads, and its drivers' web UIs. Of one that answers and one that is silent, the one that answers; two that both say that they
/// lead are for a moment possible, and neither is the leader then.
pub fn leader<'a>(answers: &[(&'a str, &'a Answer)]) -> Option<(&'a str, &'a [String])> {
    let only = |led: Vec<(&'a str, &'a [String])>| match led[..] {
        [leader] => Some(leader),
        _ => None,
    };
    let leading: Vec<_> = answers
        .iter()
        .filter_map(|(pod, answer)| match answer {
            Answer::Leads(drivers) => Some((*pod, drivers.as_slice())),
            _ => None,
        })
        .collect();
    if !leading.is_empty() {
        return only(leading);
    }
    let silent = answers.iter().filter_map(|(pod, answer)| match answer {
        Answer::LedWhenItAnswered(drivers) => Some((*pod, drivers.as_slice())),
        _ => None,
    });
    only(silent.collect())
}

/// Asks until it is aborted, and tells what changes.
pub async fn ask(way: Transport, host: String, uid: String, events: mpsc::Sender<Event>) {
    let mut ui = MasterUi::default();
    let mut drivers = Drivers::default();
    let mut last = None;
    let mut heard = Instant::now();
    loop {
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, once(&way, &host, &mut ui, &mut drivers)).await;
        let failed = !matches!(asked, Ok(Ok(_)));
        let answer = match asked {
            Ok(Ok(answer)) => {
                heard = Instant::now();
                answer
            }
            Ok(Err(reason)) => {
                tracing::debug!("{host}: {reason}");
                Answer::DoesNotLead
            }
            Err(_) => match last.clone() {
                Some(Answer::Leads(drivers) | Answer::LedWhenItAnswered(drivers)) if heard.elapsed() < SILENT => {
                    Answer::LedWhenItAnswered(drivers)
                }
                _ => Answer::DoesNotLead,
            },
        };
        let pause = match way {
            Transport::PortForward(_) if failed => PAUSE_FORWARDED,
            _ => EVERY,
        };
        if last.as_ref() != Some(&answer) {
            last = Some(answer.clone());
            let uid = uid.clone();
            if events.send(Event::Master { uid, answer }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// The drivers' web UIs, asked for anew only when the applications are others.
#[derive(Default)]
struct Drivers {
    applications: Vec<String>,
    uis: Vec<String>,
}

async fn once(way: &Transport, host: &str, ui: &mut MasterUi, drivers: &mut Drivers) -> Result<Answer, spark::Error> {
    let report = ui.report(way.connect(host, MASTER_UI_PORT)).await?;
    if report.status != MasterStatus::Alive {
        return Ok(Answer::DoesNotLead);
    }
    let applications: Vec<_> = report.activeapps.into_iter().map(|app| app.id).collect();
    if applications != drivers.applications {
        drivers.uis = match applications.is_empty() {
            true => vec![],
            false => {
                let page = ui.page(way.connect(host, MASTER_UI_PORT)).await?;
                page.driver_uis.into_iter().map(|(_, ui)| ui).collect()
            }
        };
        drivers.uis.sort();
        drivers.applications = applications;
    }
    Ok(Answer::Leads(drivers.uis.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads() {
        let leads = Answer::Leads(vec!["http://d:4040".into()]);
        let silent = Answer::LedWhenItAnswered(vec![]);
        let no = Answer::DoesNotLead;
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
