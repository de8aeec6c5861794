//! The route table, kept current: pods and inventories as they are listed and watched, and the masters asked who leads.
//!
//! Sources ([`kubernetes`], [`local`]) tell what is there; each master has a task that asks it ([`masters`]); one task puts it together and
//! publishes a new [`Table`] whenever it differs from the last. What cannot be seen for a while stays as it was seen last.

mod file;
mod kubernetes;
mod local;
mod masters;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use notify::EventKind;
use notify::event::{ModifyKind, RenameMode};
use tokio::sync::{mpsc, watch};

pub use file::follow as follow_file;
pub use local::follow as follow_local;
use masters::Answer;

use crate::lifecycle::Error;
use crate::model::labels::{Component, INSTANCE};
use crate::platform::kubernetes::Cluster;
use crate::platform::transport::Transport;
use crate::render::inventory::Summary;
use crate::routing::{self, Member, Published, Table};
use crate::spec::names::{ClusterName, UiDomain};

/// How long a first look may take: a command that only wants the routes as they are waits no longer.
const FIRST_LOOK: Duration = Duration::from_secs(15);

/// Routes being followed. Ends when dropped.
pub struct Follow {
    published: watch::Receiver<Published>,
    tasks: Vec<tokio::task::AbortHandle>,
}

/// Something that a source or a master's task has to say.
enum Event {
    Cluster(Change<Addresses>),
    Pod(Change<PodSeen>),
    Master { uid: String, answer: Answer },
}

/// What a list or a watch says of one kind of object.
enum Change<T> {
    /// A list of everything begins.
    Begin,
    Is(Key, T),
    Gone(Key),
    /// What was not named since `Begin` is gone.
    End,
}

/// Namespace and name.
type Key = (String, String);

/// As little of a pod as routes need: there may be thousands.
#[derive(PartialEq)]
struct PodSeen {
    uid: String,
    cluster: String,
    member: Member,
}

/// What an inventory says of the web UIs' addresses.
#[derive(PartialEq)]
struct Addresses {
    name: ClusterName,
    ui_domain: UiDomain,
    alias: Option<ClusterName>,
}

impl From<Summary> for Addresses {
    fn from(cluster: Summary) -> Self {
        Self {
            alias: cluster.active_alias().cloned(),
            name: cluster.name,
            ui_domain: cluster.ui_domain,
        }
    }
}

impl PodSeen {
    /// The pod, if a route could lead to it.
    fn of(metadata: &ObjectMeta, pod_ip: Option<&str>) -> Option<Self> {
        let namespace = metadata.namespace.clone()?;
        let cluster = metadata.labels.as_ref()?.get(INSTANCE)?.clone();
        let member = Member::of(metadata, pod_ip, &namespace, &cluster)?;
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
    /// If pods or inventories may not be listed, or nobody answers. Later losses heal by themselves.
    pub async fn kubernetes(cluster: &Cluster, all_namespaces: bool, way: Transport) -> Result<Self, Error> {
        kubernetes::check(cluster, all_namespaces).await?;
        let (events, source) = mpsc::channel(1024);
        let tasks = kubernetes::follow(cluster, all_namespaces, events.clone());
        Ok(Self::start(way, events, source, tasks))
    }

    fn start(
        way: Transport,
        events: mpsc::Sender<Event>,
        source: mpsc::Receiver<Event>,
        mut tasks: Vec<tokio::task::AbortHandle>,
    ) -> Self {
        let (sender, published) = watch::channel(Published::default());
        let state = State {
            way,
            events,
            clusters: Listed::default(),
            pods: Listed::default(),
            masters: HashMap::new(),
        };
        tasks.push(tokio::spawn(state.run(source, sender)).abort_handle());
        Self { published, tasks }
    }

    /// The routes, now and whenever they change.
    pub fn published(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    /// The routes once everything has been looked at.
    pub async fn first(&self) -> Result<Arc<Table>, Error> {
        let mut published = self.published.clone();
        let settled = tokio::time::timeout(FIRST_LOOK, published.wait_for(|published| published.settled)).await;
        match settled {
            Ok(Ok(published)) => Ok(published.table.clone()),
            _ => Err(Error::NotInTime {
                seconds: FIRST_LOOK.as_secs(),
                missing: vec!["the list of clusters and their pods".into()],
            }),
        }
    }
}

/// Says when a file changes in the watched folders; one word that is waiting says it for all. `concerns` chooses the files.
fn folder_watcher(
    concerns: impl Fn(&Path) -> bool + Send + 'static,
) -> (notify::Result<notify::RecommendedWatcher>, mpsc::Receiver<()>) {
    let (changed, changes) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading is no change, and a renaming that was told for either name need not be told for both.
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

impl Drop for Follow {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

/// Objects of one kind.
struct Listed<T> {
    objects: HashMap<Key, (T, u64)>,
    /// Number of the present list.
    round: u64,
    /// All have been named once. Half a list would let routes vanish that are still there.
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
    /// Whether it changes anything.
    fn take(&mut self, change: Change<T>) -> bool {
        match change {
            Change::Begin => {
                self.round += 1;
                false
            }
            Change::Is(key, object) => {
                let round = self.round;
                match self.objects.get_mut(&key) {
                    Some((known, seen)) => {
                        *seen = round;
                        std::mem::replace(known, object) != *known
                    }
                    None => self.objects.insert(key, (object, round)).is_none(),
                }
            }
            Change::Gone(key) => self.objects.remove(&key).is_some(),
            Change::End => {
                let (round, before) = (self.round, self.objects.len());
                self.objects.retain(|_, (_, seen)| *seen == round);
                let first = !std::mem::replace(&mut self.complete, true);
                first || self.objects.len() != before
            }
        }
    }
}

struct State {
    way: Transport,
    /// For the masters' tasks.
    events: mpsc::Sender<Event>,
    /// Clusters' UI domains.
    clusters: Listed<Addresses>,
    pods: Listed<PodSeen>,
    /// By the pods' UIDs, so that a pod's successor is not taken for it.
    masters: HashMap<String, Master>,
}

/// A master that is being asked.
struct Master {
    task: tokio::task::AbortHandle,
    last: Option<Answer>,
}

impl Drop for Master {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    async fn run(mut self, mut source: mpsc::Receiver<Event>, sender: watch::Sender<Published>) {
        while let Some(event) = source.recv().await {
            let mut changed = self.take(event);
            // One table for all that has come meanwhile.
            while let Ok(event) = source.try_recv() {
                changed |= self.take(event);
            }
            if !changed || !self.clusters.complete || !self.pods.complete {
                continue;
            }
            self.ask_masters();
            let settled = self.masters.values().all(|master| master.last.is_some());
            let table = Table::of(&self.clusters());
            sender.send_if_modified(|published| {
                let differs = *published.table != table || (settled && !published.settled);
                if differs {
                    // Once settled, it stays so: what is new is merely not known yet.
                    published.settled |= settled;
                    published.table = Arc::new(table);
                }
                differs
            });
        }
    }

    /// Whether it changes anything.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Cluster(change) => self.clusters.take(change),
            Event::Pod(change) => self.pods.take(change),
            Event::Master { uid, answer } => match self.masters.get_mut(&uid) {
                Some(master) => master.last.replace(answer.clone()) != Some(answer),
                None => false,
            },
        }
    }

    /// A task for each master, and none for those that are gone.
    fn ask_masters(&mut self) {
        let pods = &self.pods.objects;
        let wanted: HashMap<_, _> = pods
            .iter()
            .filter(|(_, (pod, _))| pod.member.component == Component::Master)
            .map(|((namespace, name), (pod, _))| (&pod.uid, (namespace, name, pod.member.address)))
            .collect();
        self.masters.retain(|uid, _| wanted.contains_key(uid));
        for (uid, (namespace, name, address)) in wanted {
            self.masters.entry(uid.clone()).or_insert_with(|| {
                let host = self.way.host(namespace, name, address);
                let asking = masters::ask(self.way.clone(), host, uid.clone(), self.events.clone());
                Master {
                    task: tokio::spawn(asking).abort_handle(),
                    last: None,
                }
            });
        }
    }

    fn clusters(&self) -> Vec<routing::Cluster> {
        let mut members: HashMap<(&str, &str), Vec<&PodSeen>> = HashMap::new();
        for ((namespace, _), (pod, _)) in &self.pods.objects {
            members.entry((namespace, &pod.cluster)).or_default().push(pod);
        }
        let clusters = self.clusters.objects.iter().map(|((namespace, name), (addresses, _))| {
            let mut pods = members.remove(&(namespace.as_str(), name.as_str())).unwrap_or_default();
            if let Some(alias) = &addresses.alias {
                // Drivers that are the users' own pods may still bear the name that the cluster is known by.
                let others = members
                    .remove(&(namespace.as_str(), alias.as_str()))
                    .unwrap_or_default();
                pods.extend(
                    others
                        .into_iter()
                        .filter(|pod| pod.member.component == Component::Driver),
                );
            }
            let answers: Vec<_> = pods.iter().filter_map(|pod| self.answer(pod)).collect();
            let leader = masters::leader(&answers);
            routing::Cluster {
                namespace: namespace.clone(),
                name: addresses.name.clone(),
                alias: addresses.alias.clone(),
                ui_domain: addresses.ui_domain.clone(),
                leader: leader.map(|(pod, _)| pod.to_owned()),
                driver_uis: leader.map(|(_, drivers)| drivers.to_vec()).unwrap_or_default(),
                members: pods.into_iter().map(|pod| pod.member.clone()).collect(),
            }
        });
        clusters.collect()
    }

    fn answer<'a>(&'a self, pod: &'a PodSeen) -> Option<(&'a str, &'a Answer)> {
        let master = self.masters.get(&pod.uid)?;
        Some((&pod.member.pod, master.last.as_ref()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("ns".into(), name.into())
    }

    #[test]
    fn a_new_list_ends_what_it_does_not_name() {
        let mut listed = Listed::default();
        listed.take(Change::Begin);
        assert!(listed.take(Change::Is(key("a"), 1)));
        assert!(!listed.complete);
        assert!(listed.take(Change::End));
        assert!(listed.complete);
        assert!(listed.take(Change::Is(key("b"), 2)));
        assert!(!listed.take(Change::Is(key("b"), 2)));
        assert!(listed.take(Change::Is(key("b"), 3)));
        // The connection was lost, and everything is listed anew: meanwhile nothing is missing.
        assert!(!listed.take(Change::Begin));
        assert!(!listed.take(Change::Is(key("b"), 3)));
        assert_eq!(listed.objects.len(), 2);
        assert!(listed.take(Change::End));
        assert_eq!(listed.objects.len(), 1);
        assert!(listed.take(Change::Gone(key("b"))));
        assert!(!listed.take(Change::Gone(key("b"))));
    }
}
