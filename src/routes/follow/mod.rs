//! The route table, kept current: pods and inventories are listed and watched, and the masters are queried for who leads.
//!
//! Sources ([`kubernetes`], [`local`]) report the objects; each master has a task that queries it ([`masters`]); one task combines them and publishes
//! a new [`Table`] whenever it changes. An object that cannot be read for a while keeps its last state.

mod file;
mod kubernetes;
mod local;
mod masters;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use notify::EventKind;
use notify::event::{ModifyKind, RenameMode};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

pub use file::follow as follow_file;
pub use local::follow as follow_local;
use masters::{Election, Leadership};

use crate::lifecycle::Error;
use crate::model::labels::{Component, INSTANCE};
use crate::platform::kubernetes::Cluster;
use crate::platform::transport::Transport;
use crate::render::inventory::Summary;
use crate::routing::{self, Published, RoutedPod, Table};

/// How long the first listing may take: a command that needs the routes only once waits no longer.
const FIRST_LOOK: Duration = Duration::from_secs(15);

/// The routes being followed. Following ends when this is dropped.
pub struct Follow {
    published: watch::Receiver<Published>,
    _tasks: JoinSet<()>,
}

/// A report of a source or of a master's task.
enum Event {
    Cluster(ListChange<Box<Summary>>),
    Pod(ListChange<ObservedPod>),
    Master { uid: String, leadership: Leadership },
}

/// A change of one kind of object, from a list or a watch.
enum ListChange<T> {
    /// A full list begins.
    Begin,
    Is(ObjectKey, T),
    Gone(ObjectKey),
    /// It cannot be understood: what was known of it stays.
    Unknown(ObjectKey),
    /// Objects that were not named since `Begin` are gone.
    End,
}

/// Namespace and name.
type ObjectKey = (String, String);

/// The fields of a pod that routes need: there may be thousands of pods.
#[derive(PartialEq)]
struct ObservedPod {
    uid: String,
    cluster: String,
    member: RoutedPod,
}

impl ObservedPod {
    /// The pod, if it can be the target of a route.
    fn of(metadata: &ObjectMeta, phase: Option<&str>, pod_ip: Option<&str>) -> Option<Self> {
        let namespace = metadata.namespace.clone()?;
        let cluster = metadata.labels.as_ref()?.get(INSTANCE)?.clone();
        let member = RoutedPod::of(metadata, phase, pod_ip, &namespace, &cluster)?;
        Some(Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            cluster,
            member,
        })
    }
}

impl Follow {
    /// Follows the clusters of the namespace, or of all namespaces, on Kubernetes.
    ///
    /// # Errors
    /// If pods or inventories may not be listed, or the API server does not respond. Later failures are retried.
    pub async fn kubernetes(cluster: &Cluster, all_namespaces: bool, transport: Transport) -> Result<Self, Error> {
        kubernetes::check(cluster, all_namespaces).await?;
        let source = |events, tasks: &mut _| kubernetes::follow(cluster, all_namespaces, events, tasks);
        Ok(Self::start(transport, source))
    }

    /// `source` starts the tasks that report objects.
    fn start(transport: Transport, source: impl FnOnce(mpsc::Sender<Event>, &mut JoinSet<()>)) -> Self {
        let (events, received) = mpsc::channel(1024);
        let mut tasks = JoinSet::new();
        source(events.clone(), &mut tasks);
        let (sender, published) = watch::channel(Published::default());
        let state = State {
            context: masters::QueryContext::new(transport, events),
            clusters: Listed::default(),
            pods: Listed::default(),
            masters: HashMap::new(),
        };
        tasks.spawn(state.run(received, sender));
        Self {
            published,
            _tasks: tasks,
        }
    }

    /// The routes, now and after each change.
    pub fn published(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    /// The routes once everything has been listed.
    pub async fn first(&self) -> Result<Arc<Table>, Error> {
        let mut published = self.published.clone();
        let settled = tokio::time::timeout(FIRST_LOOK, published.wait_for(|published| published.settled)).await;
        match settled {
            Ok(Ok(published)) => Ok(published.table.clone()),
            _ => Err(Error::NotInTime {
                subject: "the routes are not known".into(),
                waited: FIRST_LOOK,
                missing: vec!["the list of clusters and their pods is incomplete".into()],
                help: "run it again; -v logs what is retried".into(),
            }),
        }
    }
}

/// Reports changes of files in the watched folders; one waiting report stands for all. `concerns` selects the files.
fn folder_watcher(
    concerns: impl Fn(&Path) -> bool + Send + 'static,
) -> (notify::Result<notify::RecommendedWatcher>, mpsc::Receiver<()>) {
    let (changed, changes) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading is not a change, and a rename that was reported for either name need not be reported for both.
        let is_change = |event: &notify::Event| {
            let is_repeated = event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::Both));
            !event.kind.is_access() && !is_repeated && event.paths.iter().any(|path| concerns(path))
        };
        if event.is_ok_and(|event| is_change(&event)) {
            let _ = changed.try_send(());
        }
    });
    (watcher, changes)
}

/// Objects of one kind.
struct Listed<T> {
    objects: HashMap<ObjectKey, (T, u64)>,
    /// Number of the current list.
    round: u64,
    /// Everything has been listed once. Half a list would remove routes of objects that still exist.
    complete: bool,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            objects: HashMap::new(),
            round: 0,
            complete: false,
        }
    }
}

impl<T: PartialEq> Listed<T> {
    /// Whether the change makes a difference.
    fn take(&mut self, change: ListChange<T>) -> bool {
        match change {
            ListChange::Begin => {
                self.round += 1;
                false
            }
            ListChange::Is(key, object) => {
                let differs = self.objects.get(&key).is_none_or(|(known, _)| *known != object);
                self.objects.insert(key, (object, self.round));
                differs
            }
            ListChange::Gone(key) => self.objects.remove(&key).is_some(),
            ListChange::Unknown(key) => {
                if let Some((_, last_round)) = self.objects.get_mut(&key) {
                    *last_round = self.round;
                }
                false
            }
            ListChange::End => {
                let (round, before) = (self.round, self.objects.len());
                self.objects.retain(|_, (_, last_round)| *last_round == round);
                let first = !std::mem::replace(&mut self.complete, true);
                first || self.objects.len() != before
            }
        }
    }
}

struct State {
    context: masters::QueryContext,
    clusters: Listed<Box<Summary>>,
    pods: Listed<ObservedPod>,
    /// By pod UID, so that a pod's successor is not taken for it.
    masters: HashMap<String, MasterTask>,
}

/// A master that is queried.
struct MasterTask {
    _task: AbortOnDropHandle<()>,
    address: IpAddr,
    /// Namespace and name of its cluster.
    cluster: ObjectKey,
    election: Election,
    last: Option<Leadership>,
}

impl State {
    async fn run(mut self, mut source: mpsc::Receiver<Event>, sender: watch::Sender<Published>) {
        while let Some(event) = source.recv().await {
            let mut changed = self.take(event);
            // One table for all events that have arrived meanwhile.
            while let Ok(event) = source.try_recv() {
                changed |= self.take(event);
            }
            if !changed || !self.clusters.complete || !self.pods.complete {
                continue;
            }
            self.query_masters();
            let settled = self.masters.values().all(|master| master.last.is_some());
            let table = Table::of(&self.clusters());
            sender.send_if_modified(|published| {
                let differs = *published.table != table || (settled && !published.settled);
                if differs {
                    // Once settled, it stays settled: new masters are merely not known yet.
                    published.settled |= settled;
                    published.table = Arc::new(table);
                }
                differs
            });
        }
    }

    /// Whether the event makes a difference.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Cluster(change) => self.clusters.take(change),
            Event::Pod(change) => self.pods.take(change),
            Event::Master { uid, leadership } => match self.masters.get_mut(&uid) {
                Some(master) => master.last.replace(leadership.clone()) != Some(leadership),
                None => false,
            },
        }
    }

    /// Starts a task for each new master, and ends those of masters that are gone. A pod whose sandbox is recreated has a new address.
    fn query_masters(&mut self) {
        let count = u32::try_from(self.clusters.objects.len()).unwrap_or(u32::MAX);
        self.context.clusters.store(count, Ordering::Relaxed);
        let pods = &self.pods.objects;
        let desired: HashMap<_, _> = pods
            .iter()
            .filter(|(_, (pod, _))| pod.member.component == Component::Master)
            .map(|((namespace, name), (pod, _))| (&pod.uid, (namespace, name, pod)))
            .collect();
        self.masters.retain(|uid, master| {
            let pod = desired.get(uid);
            pod.is_some_and(|(_, _, pod)| pod.member.address == master.address)
        });
        if self.masters.len() == desired.len() {
            // Nothing is new, as after almost every event.
            return;
        }
        let known = self
            .masters
            .values()
            .map(|master| (master.cluster.clone(), master.election.clone()));
        let mut elections: HashMap<ObjectKey, Election> = known.collect();
        for (uid, (namespace, name, pod)) in desired {
            self.masters.entry(uid.clone()).or_insert_with(|| {
                let cluster = (namespace.clone(), pod.cluster.clone());
                let election = elections.entry(cluster.clone()).or_default().clone();
                let host = self.context.transport.host(namespace, name, pod.member.address);
                let querying = masters::query(self.context.clone(), host, uid.clone(), election.clone());
                MasterTask {
                    _task: AbortOnDropHandle::new(tokio::spawn(querying)),
                    address: pod.member.address,
                    cluster,
                    election,
                    last: None,
                }
            });
        }
    }

    fn clusters(&self) -> Vec<routing::RoutedCluster> {
        let mut members: HashMap<(&str, &str), Vec<&ObservedPod>> = HashMap::new();
        for ((namespace, _), (pod, _)) in &self.pods.objects {
            members.entry((namespace, &pod.cluster)).or_default().push(pod);
        }
        let clusters = self.clusters.objects.iter().map(|((namespace, name), (summary, _))| {
            let mut pods = members.remove(&(namespace.as_str(), name.as_str())).unwrap_or_default();
            let alias = summary.active_alias();
            if let Some(alias) = alias {
                // Users' own driver pods may still carry the alias as their cluster's name.
                let mut others = members.remove(&(namespace, alias.as_str())).unwrap_or_default();
                others.retain(|pod| pod.member.component == Component::Driver);
                pods.extend(others);
            }
            let answers: Vec<_> = pods.iter().filter_map(|pod| self.leadership(pod)).collect();
            let leader = masters::leader(&answers);
            routing::RoutedCluster {
                namespace: namespace.clone(),
                name: summary.name.clone(),
                alias: alias.cloned(),
                ui_domain: summary.ui_domain.clone(),
                leader: leader.map(|(pod, _)| pod.to_owned()),
                driver_uis: leader.map(|(_, drivers)| drivers.to_vec()).unwrap_or_default(),
                members: pods.into_iter().map(|pod| pod.member.clone()).collect(),
            }
        });
        clusters.collect()
    }

    fn leadership<'a>(&'a self, pod: &'a ObservedPod) -> Option<(&'a str, &'a Leadership)> {
        let master = self.masters.get(&pod.uid)?;
        Some((&pod.member.pod, master.last.as_ref()?))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::model::ports::MASTER_UI_PORT;

    #[tokio::test]
    async fn a_master_is_queried_at_its_new_address() {
        let listeners = ["127.0.9.78", "127.0.9.79"].map(|address| {
            let listener = std::net::TcpListener::bind((address, MASTER_UI_PORT)).unwrap();
            listener.set_nonblocking(true).unwrap();
            (address.parse().unwrap(), TcpListener::from_std(listener).unwrap())
        });
        let mut events = None;
        let _follow = Follow::start(Transport::Direct, |sender, _| events = Some(sender));
        let events = events.unwrap();
        for event in [
            Event::Cluster(ListChange::Begin),
            Event::Cluster(ListChange::End),
            Event::Pod(ListChange::Begin),
            Event::Pod(ListChange::End),
        ] {
            events.send(event).await.unwrap();
        }
        for (address, listener) in listeners {
            let pod = ObservedPod {
                uid: "1".into(),
                cluster: "spark".into(),
                member: RoutedPod {
                    pod: "spark-master-0".into(),
                    component: Component::Master,
                    address,
                },
            };
            let change = ListChange::Is(key("spark-master-0"), pod);
            events.send(Event::Pod(change)).await.unwrap();
            let accepted = tokio::time::timeout(Duration::from_secs(10), listener.accept()).await;
            accepted.expect("it is not queried").unwrap();
        }
    }

    fn key(name: &str) -> ObjectKey {
        ("ns".into(), name.into())
    }

    #[test]
    fn objects_missing_from_a_new_list_are_gone() {
        let mut listed = Listed::default();
        listed.take(ListChange::Begin);
        assert!(listed.take(ListChange::Is(key("a"), 1)));
        assert!(!listed.complete);
        assert!(listed.take(ListChange::End));
        assert!(listed.complete);
        assert!(listed.take(ListChange::Is(key("b"), 2)));
        assert!(!listed.take(ListChange::Is(key("b"), 2)));
        assert!(listed.take(ListChange::Is(key("b"), 3)));
        // The connection was lost, and everything is listed again: nothing is missing meanwhile.
        assert!(!listed.take(ListChange::Begin));
        assert!(!listed.take(ListChange::Is(key("b"), 3)));
        assert_eq!(listed.objects.len(), 2);
        assert!(listed.take(ListChange::End));
        assert_eq!(listed.objects.len(), 1);
        assert!(listed.take(ListChange::Gone(key("b"))));
        assert!(!listed.take(ListChange::Gone(key("b"))));
    }
}
