//! Gathers [`Facts`]: adds the reports of masters and ZooKeeper servers to pods and StatefulSets, on either platform.
//! It keeps its connections to masters, so that another query costs the API server nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::transport::Transport;
use crate::clients::spark::MasterUi;
use crate::clients::zookeeper;
use crate::model::labels::Component;
use crate::model::ports::{MASTER_UI_PORT, ZOOKEEPER_PORT};
use crate::model::reports::MasterReport;
use crate::state::{Facts, pods_of};

/// How long a pod may take to answer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a ZooKeeper server's report stays valid. Each query needs a new connection.
const REPORT_VALIDITY: Duration = Duration::from_secs(5);

/// Which pods to query.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PodFilter {
    /// All running pods: the user waits for the answer.
    Running,
    /// Ready pods only: a JVM that still starts does not answer, and every attempt costs a request.
    Ready,
}

/// Observes one cluster repeatedly.
pub struct Observer {
    transport: Transport,
    /// By the pod's UID, so that a pod is not mistaken for its predecessor of the same name.
    masters: HashMap<String, PolledMaster>,
    zookeepers: HashMap<String, PolledZooKeeper>,
}

struct PolledMaster {
    ui: MasterUi,
    last: Result<MasterReport, String>,
    not_before: Instant,
}

struct PolledZooKeeper {
    last: Result<crate::model::reports::ZooKeeperReport, String>,
    not_before: Instant,
}

impl Observer {
    pub fn new(transport: Transport) -> Self {
        Self {
            transport,
            masters: HashMap::new(),
            zookeepers: HashMap::new(),
        }
    }

    /// Queries the masters and ZooKeeper servers among these pods.
    pub async fn query(&mut self, pods: Vec<Pod>, sets: Vec<StatefulSet>, filter: PodFilter) -> Facts {
        let mut facts = Facts {
            pods,
            sets,
            ..Facts::default()
        };
        let running = |component| {
            pods_of(&facts.pods, component)
                .filter(|pod| is_selected(pod, filter))
                .map(|pod| (pod.uid().unwrap_or_default(), pod.clone()))
                .collect::<Vec<_>>()
        };
        let (masters, zookeepers) = (running(Component::Master), running(Component::ZooKeeper));
        self.masters
            .retain(|uid, _| masters.iter().any(|(known, _)| known == uid));
        self.zookeepers
            .retain(|uid, _| zookeepers.iter().any(|(known, _)| known == uid));

        let masters = masters.into_iter().map(|(uid, pod)| {
            let master = self.masters.remove(&uid).unwrap_or_else(PolledMaster::new);
            let transport = &self.transport;
            async move {
                let master = master.query(transport, &pod).await;
                (uid, pod.name_any(), master)
            }
        });
        let servers = zookeepers.into_iter().map(|(uid, pod)| {
            let server = self.zookeepers.remove(&uid).unwrap_or_else(PolledZooKeeper::new);
            let transport = &self.transport;
            async move {
                let server = server.query(transport, &pod).await;
                (uid, pod.name_any(), server)
            }
        });
        let (masters, servers) = futures::join!(
            join_all(masters.collect::<Vec<_>>()),
            join_all(servers.collect::<Vec<_>>())
        );
        for (uid, pod, master) in masters {
            facts.masters.insert(pod, master.last.clone());
            self.masters.insert(uid, master);
        }
        for (uid, pod, server) in servers {
            facts.zookeepers.insert(pod, server.last.clone());
            self.zookeepers.insert(uid, server);
        }
        facts
    }
}

impl PolledMaster {
    fn new() -> Self {
        Self {
            ui: MasterUi::default(),
            last: Err("not queried yet".into()),
            not_before: Instant::now(),
        }
    }

    async fn query(mut self, transport: &Transport, pod: &Pod) -> Self {
        if Instant::now() < self.not_before {
            return self;
        }
        let query = self.ui.report(transport.open(pod, MASTER_UI_PORT));
        match tokio::time::timeout(QUERY_TIMEOUT, query).await {
            Ok(Ok(report)) => self.last = Ok(report),
            Ok(Err(error)) => self.failed(error.to_string(), transport.pause_after_failure()),
            Err(_) => self.failed(
                format!("no answer within {} s", QUERY_TIMEOUT.as_secs()),
                transport.pause_after_failure(),
            ),
        }
        self
    }

    fn failed(&mut self, reason: String, pause: Duration) {
        self.last = Err(reason);
        self.not_before = Instant::now() + pause;
    }
}

impl PolledZooKeeper {
    fn new() -> Self {
        Self {
            last: Err("not queried yet".into()),
            not_before: Instant::now(),
        }
    }

    async fn query(mut self, transport: &Transport, pod: &Pod) -> Self {
        if Instant::now() < self.not_before {
            return self;
        }
        let query = async {
            let stream = transport.open(pod, ZOOKEEPER_PORT).await?;
            zookeeper::query(stream).await.map_err(|error| error.to_string())
        };
        self.last = match tokio::time::timeout(QUERY_TIMEOUT, query).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", QUERY_TIMEOUT.as_secs())),
        };
        let pause = if self.last.is_ok() {
            REPORT_VALIDITY
        } else {
            transport.pause_after_failure()
        };
        self.not_before = Instant::now() + pause;
        self
    }
}

fn is_selected(pod: &Pod, filter: PodFilter) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let Some(container) = statuses.and_then(|statuses| statuses.first()) else {
        return false;
    };
    let running = container.state.as_ref().is_some_and(|state| state.running.is_some());
    pod.metadata.deletion_timestamp.is_none() && running && (filter == PodFilter::Running || container.ready)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    /// No other test listens at this address.
    const ADDRESS: &str = "127.81.82.83";

    fn master() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "spark-master-0", "uid": "u", "labels": {"app.kubernetes.io/component": "master"}},
            "status": {"podIP": ADDRESS, "containerStatuses": [{
                "name": "master", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}
            }]},
        }))
        .unwrap()
    }

    /// Answers one request on each connection and closes it, as Jetty does with one that has been idle for a while.
    async fn answers_once(listener: TcpListener, closed: mpsc::Sender<()>) {
        let report = r#"{"status": "ALIVE", "url": "spark://x:7077"}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{report}", report.len());
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            assert_ne!(stream.read(&mut request).await.unwrap(), 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            drop(stream);
            closed.send(()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_master_that_closed_a_kept_connection_still_answers() {
        let listener = TcpListener::bind((ADDRESS, MASTER_UI_PORT)).await.unwrap();
        let mut observer = Observer::new(Transport::Direct);
        let (sender, mut closed) = mpsc::channel(1);
        let server = tokio::spawn(answers_once(listener, sender));
        for _ in 0..3 {
            let facts = observer.query(vec![master()], vec![], PodFilter::Running).await;
            let report = facts.masters["spark-master-0"].as_ref();
            assert_eq!(report.map(|report| report.url.as_str()), Ok("spark://x:7077"));
            closed.recv().await.unwrap();
        }
        // Nothing listens any more: the next query fails.
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        let facts = observer.query(vec![master()], vec![], PodFilter::Running).await;
        assert!(facts.masters["spark-master-0"].is_err());
    }
}
