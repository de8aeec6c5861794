//! Queries the masters of a cluster for which one leads.
//!
//! A leader that responds is queried regularly, and its kept connection is watched: it closes when the leader's process ends. The other masters
//! are queried rarely until no leader responds, and then often.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::clients::spark::{self, MasterUi};
use crate::model::ports::MASTER_UI_PORT;
use crate::model::reports::MasterStatus;
use crate::platform::transport::Transport;
use crate::routes::follow::Event;

/// How often masters are queried while none leads. After a failover, the former leader counts as leader no longer than this and one response.
const EVERY: Duration = Duration::from_millis(250);
/// A responding leader's share of the time between two queries, for each cluster: a router of many clusters queries each of them less often.
const EVERY_OF_CLUSTER: Duration = Duration::from_millis(4);
/// Most time between two queries of a responding leader. Longer ones would need a new connection each.
const MOST: Duration = Duration::from_secs(4);
/// How much less often a master is queried while another one leads.
const STANDBY_FACTOR: u32 = 10;
/// How long a response may take before the master counts as silent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait for a master's first response. After that, the master counts as not leading. On a loaded machine a leader may need longer than
/// one query: a command that looks only once would leave out its route, or remove it.
const SILENT_AT_FIRST: Duration = Duration::from_secs(5);
/// How long a leader may be silent before no master leads: a page that says so is better than one that waits.
const SILENT: Duration = Duration::from_secs(10);
/// Masters that are queried for the first time at once: a query takes 40 KiB.
const FIRST_QUERIES: usize = 64;
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

/// The master of a cluster that leads and responds, by UID; shared by the tasks of its masters.
pub type Election = Arc<watch::Sender<Option<String>>>;

/// One master's entry in the election. Dropped with its task, when the pod is gone.
struct Candidate {
    uid: String,
    election: Election,
}

impl Candidate {
    fn report(&self, leads: bool) {
        self.election.send_if_modified(|leader| {
            let is_it = leader.as_ref() == Some(&self.uid);
            if leads != is_it {
                *leader = leads.then(|| self.uid.clone());
            }
            leads != is_it
        });
    }

    /// Whether another master leads and responds.
    fn is_standby(&self) -> bool {
        self.election
            .borrow()
            .as_ref()
            .is_some_and(|leader| *leader != self.uid)
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.report(false);
    }
}

/// What the tasks of all masters share.
#[derive(Clone)]
pub struct QueryContext {
    pub transport: Transport,
    pub events: mpsc::Sender<Event>,
    /// The number of clusters.
    pub clusters: Arc<AtomicU32>,
    first_queries: Arc<Semaphore>,
}

impl QueryContext {
    pub fn new(transport: Transport, events: mpsc::Sender<Event>) -> Self {
        Self {
            transport,
            events,
            clusters: Arc::default(),
            first_queries: Arc::new(Semaphore::new(FIRST_QUERIES)),
        }
    }
}

/// Queries until aborted, and reports changes.
pub async fn query(context: QueryContext, host: String, uid: String, election: Election) {
    let QueryContext {
        transport,
        events,
        clusters,
        first_queries,
    } = context;
    let mut ui = MasterUi::default();
    let mut drivers = Drivers::default();
    let mut last = None;
    let mut last_response = Instant::now();
    let mut leader = election.subscribe();
    let candidate = Candidate { uid, election };
    loop {
        let first = match last {
            None => first_queries.acquire().await.ok(),
            Some(_) => None,
        };
        // Boxed: it takes 24 KiB, and there may be thousands of idle tasks.
        let query = Box::pin(query_once(&transport, &host, &mut ui, &mut drivers));
        let response = tokio::time::timeout(ANSWER_TIMEOUT, query).await;
        drop(first);
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
                None if last_response.elapsed() < SILENT_AT_FIRST => continue,
                Some(Leadership::Leads(drivers) | Leadership::LedUntilSilent(drivers))
                    if last_response.elapsed() < SILENT =>
                {
                    Leadership::LedUntilSilent(drivers)
                }
                _ => Leadership::DoesNotLead,
            },
        };
        let leads = matches!(leadership, Leadership::Leads(_));
        candidate.report(leads);
        if last.as_ref() != Some(&leadership) {
            last = Some(leadership.clone());
            let uid = candidate.uid.clone();
            if events.send(Event::Master { uid, leadership }).await.is_err() {
                return;
            }
        }
        let is_standby = candidate.is_standby();
        if is_standby || (!leads && matches!(transport, Transport::Direct)) {
            // Spark would close a standby's long before the next query. Until one leads, there may be thousands.
            ui = MasterUi::default();
        }
        let pause = match transport {
            Transport::PortForward(_) if failed => PAUSE_FORWARDED,
            _ => pause(clusters.load(Ordering::Relaxed), leads, is_standby),
        };
        let began = Instant::now();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // It may have closed only because it was idle, or does so after each response.
            () = ui.closed(), if leads => tokio::time::sleep(EVERY.saturating_sub(began.elapsed())).await,
            () = leader.wait_for(Option::is_none).map(drop), if is_standby => {}
        }
    }
}

/// The time until a master is queried again.
fn pause(clusters: u32, leads: bool, is_standby: bool) -> Duration {
    let of_leader = (EVERY_OF_CLUSTER * clusters).clamp(EVERY, MOST);
    match (leads, is_standby) {
        (_, true) => of_leader * STANDBY_FACTOR,
        (true, false) => of_leader,
        (false, false) => EVERY,
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
    // The master's whole state lists all workers.
    if ui.status(transport.connect(host, MASTER_UI_PORT)).await? != MasterStatus::Alive {
        return Ok(Leadership::DoesNotLead);
    }
    let applications = ui.applications(transport.connect(host, MASTER_UI_PORT)).await?;
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_leader_whose_first_response_is_late_is_not_taken_for_a_standby() {
        let address = "127.0.9.77";
        let listener = TcpListener::bind((address, MASTER_UI_PORT)).await.unwrap();
        tokio::spawn(async move {
            // The first request is never answered.
            let (_silent, _) = listener.accept().await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let body = r#"{"status": "ALIVE", "activeapps": []}"#;
            while stream.read(&mut [0; 1024]).await.unwrap() > 0 {
                let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(response.as_bytes()).await.unwrap();
            }
        });
        let (events, mut received) = mpsc::channel(1);
        let context = QueryContext::new(Transport::Direct, events);
        let _query = tokio::spawn(query(context, address.into(), "a".into(), Election::default()));
        let Some(Event::Master { leadership, .. }) = received.recv().await else {
            panic!("no report");
        };
        assert_eq!(leadership, Leadership::Leads(vec![]));
    }

    #[test]
    fn masters_are_queried_often_only_while_none_leads() {
        let ms = |clusters, leads, is_standby| pause(clusters, leads, is_standby).as_millis();
        assert_eq!(
            (ms(1, true, false), ms(1, false, true), ms(1, false, false)),
            (250, 2500, 250)
        );
        assert_eq!(
            (ms(1000, true, false), ms(1000, false, true), ms(1000, false, false)),
            (4000, 40_000, 250)
        );
    }

    #[test]
    fn an_election_ends_when_its_leader_stops_leading_or_is_gone() {
        let election: Election = Arc::default();
        let candidate = |uid: &str| Candidate {
            uid: uid.into(),
            election: election.clone(),
        };
        let (a, b) = (candidate("a"), candidate("b"));
        a.report(true);
        assert!(!a.is_standby() && b.is_standby());
        // One that does not lead ends nothing.
        b.report(false);
        assert!(b.is_standby());
        b.report(true);
        a.report(false);
        assert!(a.is_standby() && !b.is_standby());
        drop(b);
        assert!(!a.is_standby() && election.borrow().is_none());
    }

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
