//! Keeps routes in Vulcand current: written whenever the table changes, renewed while it does not, compared with Vulcand's actual objects now and
//! then, and retried without limit.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::console::progress::Progress;
use crate::lifecycle::Error;
use crate::model::error_chain::with_sources;
use crate::router::metrics::{Metric, MetricsSource};
use crate::routes::publish::{OnConflict, RoutePublisher};
use crate::routing::vulcand::Scope;
use crate::routing::vulcand::diff::Changes;
use crate::routing::{Published, Table};

/// How often everything is compared without a known change: etcd may have been restored from a copy.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// Pauses between retries after a failure.
const RETRIES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(250))
    .with_max_delay(Duration::from_secs(15))
    .with_factor(2.0)
    .without_max_times();

/// The counts and state of the watch.
#[derive(Default)]
pub struct WatchStatistics {
    routes: AtomicU64,
    written: AtomicU64,
    deleted: AtomicU64,
    conflicts: AtomicU64,
    failures: AtomicU64,
    /// Seconds since 1970; 0 for never.
    last_success: AtomicU64,
    is_current: AtomicBool,
}

impl WatchStatistics {
    fn done(&self, table: &Table, changes: &Changes) {
        self.routes.store(table.routes.len() as u64, Ordering::Relaxed);
        self.written.fetch_add(changes.written.len() as u64, Ordering::Relaxed);
        self.deleted.fetch_add(changes.deleted.len() as u64, Ordering::Relaxed);
        self.conflicts.store(changes.conflicts.len() as u64, Ordering::Relaxed);
        let now = Timestamp::now().as_second().unsigned_abs();
        self.last_success.store(now, Ordering::Relaxed);
        self.is_current.store(true, Ordering::Relaxed);
    }

    fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.is_current.store(false, Ordering::Relaxed);
    }
}

impl MetricsSource for WatchStatistics {
    fn metrics(&self) -> Vec<Metric> {
        let of = |name, help, value: &AtomicU64| Metric::new(name, help, value.load(Ordering::Relaxed) as f64);
        vec![
            of("sparkha_routes", "Routes in the last table written.", &self.routes),
            of(
                "sparkha_route_writes_total",
                "Hosts and listeners written.",
                &self.written,
            ),
            of(
                "sparkha_route_deletes_total",
                "Hosts and listeners deleted.",
                &self.deleted,
            ),
            of(
                "sparkha_route_conflicts",
                "Conflicts with objects of somebody else, whose web UIs are left out.",
                &self.conflicts,
            ),
            of(
                "sparkha_route_failures_total",
                "Failed attempts to write.",
                &self.failures,
            ),
            of(
                "sparkha_routes_last_success_timestamp_seconds",
                "Time of the last successful comparison or write.",
                &self.last_success,
            ),
        ]
    }

    fn ready(&self) -> Result<(), String> {
        match self.is_current.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("Vulcand's routes may be out of date".into()),
        }
    }
}

/// Follows until dropped. Written routes stay for their time to live.
pub async fn watch_routes(
    mut routes: watch::Receiver<Published>,
    mut target: RoutePublisher,
    scope: &Scope,
    statistics: &WatchStatistics,
    progress: &Progress,
) -> Result<(), Error> {
    // Half a table would delete routes that are needed.
    if routes.wait_for(|published| published.settled).await.is_err() {
        return Ok(());
    }
    let keep_alive_every = target.ttl.map_or(COMPARE_EVERY, |ttl| ttl / 3);
    let mut retries = RETRIES.build();
    let mut conflicts = Vec::new();
    // Failures and their pauses put off no renewal.
    let mut renewed = Instant::now();
    loop {
        let table = routes.borrow_and_update().table.clone();
        let pause = match target.reconcile(&table.routes, scope, OnConflict::LeaveOut).await {
            Ok(changes) => {
                renewed = Instant::now();
                statistics.done(&table, &changes);
                for (verb, names) in [("write", &changes.written), ("delete", &changes.deleted)] {
                    names.iter().for_each(|name| progress.done(&format!("{verb} {name}")));
                }
                for conflict in changes
                    .conflicts
                    .iter()
                    .filter(|conflict| !conflicts.contains(*conflict))
                {
                    progress.warn(&format!("{conflict}; this web UI is left out"));
                }
                conflicts = changes.conflicts;
                retries = RETRIES.build();
                COMPARE_EVERY
            }
            Err(error) => {
                statistics.failed();
                let pause = retries.next().unwrap_or(COMPARE_EVERY);
                let (why, ms) = (with_sources(&error), pause.as_millis());
                progress.warn(&format!("{why}; trying again in {ms} ms"));
                pause
            }
        };
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until.min(renewed + keep_alive_every)) => {}
                changed = routes.changed() => match changed {
                    Ok(()) => break,
                    // The follower has ended.
                    Err(_) => return Ok(()),
                },
            }
            if Instant::now() < renewed + keep_alive_every {
                break;
            }
            renewed = Instant::now();
            match target.keep_alive().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    statistics.failed();
                    progress.warn(&with_sources(&error));
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Method, Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::clients::vulcand::VulcandApi;
    use crate::routes::publish::VulcandStore;
    use crate::routing::tests::table;
    use crate::spec::names::OwnerName;

    #[tokio::test]
    async fn routes_are_renewed_while_changes_cannot_be_written() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = VulcandApi::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let (writes, mut written) = mpsc::unbounded_channel();
        let refuses = Arc::new(AtomicBool::new(false));
        let refuses_lists = refuses.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (writes, refuses) = (writes.clone(), refuses_lists.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let status = match *request.method() {
                        Method::POST => writes.send(()).map_or(500, |()| 200),
                        _ if refuses.load(Ordering::Relaxed) => 500,
                        // An empty list.
                        _ => 404,
                    };
                    async move { Response::builder().status(status).body("{}".to_owned()) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        let kept = BTreeMap::new();
        let target = RoutePublisher {
            server: VulcandStore::Api { api, kept },
            owner: OwnerName::parse("kubernetes").unwrap(),
            listen: [0, 0, 0, 0].into(),
            ttl: Some(Duration::from_millis(600)),
        };
        let published = || Published {
            table: Arc::new(Table::from_routes(table())),
            settled: true,
        };
        let (tables, routes) = watch::channel(published());
        let (statistics, progress) = (WatchStatistics::default(), Progress::new(true));
        // Each change of the table is an attempt to write.
        let attempt = async || {
            tables.send_replace(published());
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let renewal = async {
            while statistics.last_success.load(Ordering::Relaxed) == 0 {
                attempt().await;
            }
            refuses.store(true, Ordering::Relaxed);
            while statistics.failures.load(Ordering::Relaxed) == 0 {
                attempt().await;
            }
            while written.try_recv().is_ok() {}
            while written.try_recv().is_err() {
                attempt().await;
            }
        };
        tokio::select! {
            _ = watch_routes(routes, target, &Scope::All, &statistics, &progress) => panic!("the watch ended"),
            renewed = tokio::time::timeout(Duration::from_secs(10), renewal) => renewed.expect("no renewal"),
        }
    }
}
