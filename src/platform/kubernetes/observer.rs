//! Gathers [`Facts`]: pods and StatefulSets from the API server, and what masters and ZooKeepers say of themselves through
//! forwarded ports. Connections to masters are kept, so that asking again costs the API server nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Cluster, Error};
use crate::observe::{Facts, pods_of};
use crate::render::labels::{Component, cluster_selector};
use crate::render::{MASTER_UI_PORT, ZOOKEEPER_PORT};
use crate::spark::{MasterReport, MasterUi};
use crate::spec::names::ClusterName;
use crate::zookeeper::{self, Mode};

/// How long a pod may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to leave a pod alone that could not be asked: a JVM needs seconds to start, and every attempt is a request.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(1000);
/// How long a ZooKeeper's word is taken for granted: asking it needs a new connection.
const MODE_LASTS: Duration = Duration::from_secs(5);

/// Whom to ask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Whoever runs: someone wants to know now.
    Running,
    /// Whoever is ready: the answer of a JVM that still starts is known, and every attempt costs a request.
    Ready,
}

/// Watches one cluster.
pub struct Observer {
    cluster: Cluster,
    name: ClusterName,
    /// By UID of the pod, so that a pod's successor is not taken for it.
    masters: HashMap<String, Master>,
    zookeepers: HashMap<String, Server>,
}

struct Master {
    ui: Option<MasterUi>,
    last: Result<MasterReport, String>,
    not_before: Instant,
}

struct Server {
    last: Result<Mode, String>,
    not_before: Instant,
}

impl Observer {
    pub fn new(cluster: Cluster, name: ClusterName) -> Self {
        Self {
            cluster,
            name,
            masters: HashMap::new(),
            zookeepers: HashMap::new(),
        }
    }

    /// Looks once: lists pods and StatefulSets, and asks.
    pub async fn observe(&mut self) -> Result<Facts, Error> {
        let selector = cluster_selector(&self.name);
        let (pods, sets) = futures::try_join!(
            self.cluster.list_of::<Pod>(&selector),
            self.cluster.list_of::<StatefulSet>(&selector),
        )?;
        Ok(self.ask(pods, sets, Ask::Running).await)
    }

    /// Asks the masters and ZooKeepers among these pods.
    pub async fn ask(&mut self, pods: Vec<Pod>, sets: Vec<StatefulSet>, ask: Ask) -> Facts {
        let mut facts = Facts {
            pods,
            sets,
            ..Facts::default()
        };
        let running = |component| {
            pods_of(&facts, component)
                .filter(|pod| can_answer(pod, ask))
                .map(|pod| (pod.uid().unwrap_or_default(), pod.name_any()))
                .collect::<Vec<_>>()
        };
        let (masters, zookeepers) = (running(Component::Master), running(Component::ZooKeeper));
        self.masters
            .retain(|uid, _| masters.iter().any(|(known, _)| known == uid));
        self.zookeepers
            .retain(|uid, _| zookeepers.iter().any(|(known, _)| known == uid));

        let asked_masters = masters.into_iter().map(|(uid, pod)| {
            let master = self.masters.remove(&uid).unwrap_or_else(Master::unknown);
            let cluster = &self.cluster;
            async move {
                let master = master.ask(cluster, &pod).await;
                (uid, pod, master)
            }
        });
        let asked_servers = zookeepers.into_iter().map(|(uid, pod)| {
            let server = self.zookeepers.remove(&uid).unwrap_or_else(Server::unknown);
            let cluster = &self.cluster;
            async move {
                let server = server.ask(cluster, &pod).await;
                (uid, pod, server)
            }
        });
        let (asked_masters, asked_servers) = futures::join!(
            join_all(asked_masters.collect::<Vec<_>>()),
            join_all(asked_servers.collect::<Vec<_>>())
        );
        for (uid, pod, master) in asked_masters {
            facts.masters.insert(pod, master.last.clone());
            self.masters.insert(uid, master);
        }
        for (uid, pod, server) in asked_servers {
            facts.zookeepers.insert(pod, server.last.clone());
            self.zookeepers.insert(uid, server);
        }
        facts
    }
}

impl Master {
    fn unknown() -> Self {
        Self {
            ui: None,
            last: Err("not asked yet".into()),
            not_before: Instant::now(),
        }
    }

    async fn ask(mut self, cluster: &Cluster, pod: &str) -> Self {
        if Instant::now() < self.not_before {
            return self;
        }
        let ui = self.ui.take();
        match tokio::time::timeout(ANSWER_TIMEOUT, report(ui, cluster, pod)).await {
            Ok(Ok((ui, report))) => {
                self.ui = Some(ui);
                self.last = Ok(report);
            }
            Ok(Err(reason)) => self.failed(reason),
            Err(_) => self.failed(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
        }
        self
    }

    fn failed(&mut self, reason: String) {
        self.last = Err(reason);
        self.not_before = Instant::now() + PAUSE_AFTER_FAILURE;
    }
}

async fn report(ui: Option<MasterUi>, cluster: &Cluster, pod: &str) -> Result<(MasterUi, MasterReport), String> {
    let mut ui = match ui {
        Some(ui) => ui,
        None => {
            let stream = cluster
                .forward(pod, MASTER_UI_PORT)
                .await
                .map_err(|error| error.to_string())?;
            MasterUi::over(stream).await.map_err(|error| error.to_string())?
        }
    };
    let report = ui.report().await.map_err(|error| error.to_string())?;
    Ok((ui, report))
}

impl Server {
    fn unknown() -> Self {
        Self {
            last: Err("not asked yet".into()),
            not_before: Instant::now(),
        }
    }

    async fn ask(mut self, cluster: &Cluster, pod: &str) -> Self {
        if Instant::now() < self.not_before {
            return self;
        }
        let asking = async {
            let stream = cluster
                .forward(pod, ZOOKEEPER_PORT)
                .await
                .map_err(|error| error.to_string())?;
            zookeeper::mode(stream).await.map_err(|error| error.to_string())
        };
        self.last = match tokio::time::timeout(ANSWER_TIMEOUT, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
        };
        let pause = if self.last.is_ok() {
            MODE_LASTS
        } else {
            PAUSE_AFTER_FAILURE
        };
        self.not_before = Instant::now() + pause;
        self
    }
}

fn can_answer(pod: &Pod, ask: Ask) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let Some(container) = statuses.and_then(|statuses| statuses.first()) else {
        return false;
    };
    let running = container.state.as_ref().is_some_and(|state| state.running.is_some());
    pod.metadata.deletion_timestamp.is_none() && running && (ask == Ask::Running || container.ready)
}
