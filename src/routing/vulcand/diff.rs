//! The changes that make Vulcand match a table's routes. New objects are written before old ones are deleted, and objects of others are never
//! touched. Pure, including the sizes of transactions.
//!
//! Nothing is written that would harm Vulcand: it does not start with two listeners at one address, adds another backend's servers to a backend whose
//! ID is a prefix of the other's, and applies changed settings of a frontend only if it is recreated.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound::{Excluded, Unbounded};

use serde::Serialize;

use super::{Id, JsonText, SERVER_PREFIX, Scope, VulcandObject, listener_id};
use crate::model::subset::contains;
use crate::spec::names::OwnerName;

/// An object in the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredObject {
    pub value: JsonText,
    /// Revision of its last write in etcd; 0 without etcd.
    pub revision: i64,
    /// The lease with which it expires in etcd; 0 for none.
    pub lease: i64,
}

/// All objects in the store, of any owner.
pub type StoredObjects = BTreeMap<Id, StoredObject>;

/// The write or the deletion of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectChange {
    pub id: Id,
    /// `None` deletes it.
    pub value: Option<JsonText>,
    /// The lease that it gets.
    pub lease: i64,
    /// Its revision when it was read; 0 if it did not exist.
    pub observed: i64,
}

/// The changes. Each phase must finish before the next begins: new objects, frontends and listeners deleted to be recreated, the same recreated, old
/// objects. The changes of one host form a group.
#[derive(Debug, Default, PartialEq)]
pub struct RoutePlan {
    phases: [Vec<Vec<ObjectChange>>; 4],
    /// Number of desired hosts, without those left out.
    desired: usize,
    /// The hosts left out.
    pub conflicts: Vec<Conflict>,
}

/// Changes made, or planned. Hosts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    pub written: BTreeSet<String>,
    pub deleted: BTreeSet<String>,
    /// Hosts that needed no change.
    pub unchanged: usize,
    /// Hosts left out, which keep what they have; only the address of their server is kept right.
    #[serde(skip)]
    pub conflicts: Vec<Conflict>,
}

/// An object of somebody else that blocks a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub host: String,
    pub reason: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.host, self.reason)
    }
}

impl RoutePlan {
    /// All changes, in order.
    pub fn changes(&self) -> impl Iterator<Item = &ObjectChange> {
        self.phases.iter().flatten().flatten()
    }

    /// The plan, if no host is left out.
    pub fn without_conflicts(self) -> Result<Self, Vec<Conflict>> {
        match self.conflicts.is_empty() {
            true => Ok(self),
            false => Err(self.conflicts),
        }
    }

    /// Whether objects of somebody else block the host.
    pub fn leaves_out(&self, host: &str) -> bool {
        self.conflicts.iter().any(|conflict| conflict.host == host)
    }

    /// Vulcand's API deletes by prefix. Leaves out the hosts and listeners with which it would delete others, and deletes those first that would take
    /// along what this plan writes.
    pub fn order_for_prefixes(&mut self, present: &StoredObjects) {
        let name = |id: &Id| match id {
            Id::Listener(id) => Some(("listener", id.clone())),
            Id::Frontend(id) | Id::Backend(id) => Some(("host", id.clone())),
            Id::Server { .. } => None,
        };
        let names = |are_going: bool| -> BTreeSet<_> {
            let changes = self.changes().filter(|change| change.value.is_none() == are_going);
            changes.filter_map(|change| name(&change.id)).collect()
        };
        let (going, coming) = (names(true), names(false));
        let staying: BTreeSet<_> = present
            .keys()
            .filter_map(name)
            .filter(|id| !going.contains(id))
            .collect();
        let (mut swallowing, mut first) = (BTreeSet::new(), BTreeSet::new());
        for name @ (kind, id) in &going {
            let longer = |of: &BTreeSet<(&'static str, String)>| {
                let next = of.range((Excluded(name), Unbounded)).next().cloned();
                next.filter(|(of, other)| of == kind && other.starts_with(id.as_str()))
            };
            if longer(&coming).is_some() {
                first.insert(id.as_str());
            }
            if let Some((_, other)) = longer(&staying) {
                self.conflicts.push(Conflict {
                    host: id.clone(),
                    reason: format!(
                        "deleting it through Vulcand's API would delete {other} too; --etcd deletes exact keys"
                    ),
                });
                swallowing.insert(id.as_str());
            }
        }
        let is_left_out = |change: &ObjectChange| match &change.id {
            Id::Listener(id) => swallowing.contains(id.as_str()),
            id => id.host().is_some_and(|host| swallowing.contains(host)),
        };
        for phase in &mut self.phases {
            phase.retain(|group| !group.iter().any(is_left_out));
        }
        if !swallowing.is_empty() {
            // The hosts left out may need a listener that is idle without them.
            self.phases[3].retain(|group| group.iter().all(|change| change.id.host().is_some()));
        }
        let is_first = |group: &Vec<ObjectChange>| {
            group
                .iter()
                .any(|c| c.id.host().is_some_and(|host| first.contains(host)))
        };
        let (early, late) = std::mem::take(&mut self.phases[3]).into_iter().partition(is_first);
        self.phases[3] = late;
        self.phases[0].splice(0..0, early);
    }

    /// The changes in order, in pieces of `most` at most. A piece never has half a group, or changes of two phases.
    pub fn transactions(&self, most: usize) -> Vec<Vec<&ObjectChange>> {
        let mut pieces = Vec::new();
        for phase in &self.phases {
            let mut piece: Vec<&ObjectChange> = Vec::new();
            for group in phase {
                if !piece.is_empty() && piece.len() + group.len() > most {
                    pieces.push(std::mem::take(&mut piece));
                }
                piece.extend(group);
            }
            if !piece.is_empty() {
                pieces.push(piece);
            }
        }
        pieces
    }
}

impl Changes {
    /// Records a change that was made.
    pub fn note(&mut self, change: &ObjectChange) {
        let name = change.id.host().map_or_else(|| change.id.to_string(), str::to_owned);
        match change.value {
            // Of an object that is recreated, only the write counts.
            Some(_) => {
                self.deleted.remove(&name);
                self.written.insert(name);
            }
            None if self.written.contains(&name) => {}
            None => {
                self.deleted.insert(name);
            }
        }
    }

    /// Counts the hosts that needed no change, and names those left out.
    pub fn finish(&mut self, plan: &RoutePlan) {
        self.conflicts.clone_from(&plan.conflicts);
        let is_counted = |name: &&String| !name.starts_with("listener ") && !plan.leaves_out(name);
        let hosts = self.written.iter().filter(is_counted);
        self.unchanged = plan.desired.saturating_sub(hosts.count());
    }

    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.deleted.is_empty()
    }
}

impl From<&RoutePlan> for Changes {
    /// The planned changes.
    fn from(plan: &RoutePlan) -> Self {
        let mut changes = Self::default();
        plan.changes().for_each(|change| changes.note(change));
        changes.finish(plan);
        changes
    }
}

/// Compares the objects in the store with the desired ones. Within the scope, hosts of the owner that are not desired are deleted. Hosts that objects
/// of somebody else block are left out, but for their server's address. Hosts get the lease (0: none); listeners never have one, because others may
/// use them too.
pub fn plan(
    present: &StoredObjects,
    desired: &[VulcandObject],
    owner: &OwnerName,
    scope: &Scope,
    lease: i64,
) -> RoutePlan {
    let hosts: BTreeSet<&str> = desired.iter().filter_map(|object| object.id.host()).collect();
    let going: BTreeSet<&str> = own_hosts(present, owner, scope)
        .filter(|host| !hosts.contains(host))
        .collect();
    let conflicts = conflicts(present, desired, &hosts, &going);
    let blocked: BTreeSet<&str> = conflicts.iter().map(|conflict| conflict.host.as_str()).collect();
    let mut plan = RoutePlan {
        desired: hosts.len() - blocked.len(),
        ..RoutePlan::default()
    };
    for group in desired.chunk_by(|a, b| a.id.host().is_some() && a.id.host() == b.id.host()) {
        let is_blocked = group[0].id.host().is_some_and(|host| blocked.contains(host));
        let mut new = Vec::new();
        for object in group {
            let lease = if object.id.host().is_some() { lease } else { 0 };
            let found = present.get(&object.id);
            let put = |observed| ObjectChange {
                id: object.id.clone(),
                value: Some(object.value.clone()),
                lease,
                observed,
            };
            match found {
                // Of a host that is left out, our own server still follows its pod: its old address may be another pod's.
                Some(found) if is_blocked => {
                    if matches!(object.id, Id::Server { .. }) && !found.value.contains(&object.value) {
                        new.push(put(found.revision));
                    }
                }
                None if is_blocked => {}
                _ if address_is_taken(present, object) => {}
                None => new.push(put(0)),
                Some(found) if must_be_recreated(object, found) => {
                    plan.phases[1].push(vec![gone(&object.id, found)]);
                    plan.phases[2].push(vec![put(0)]);
                }
                Some(found) if found.lease == lease && found.value.contains(&object.value) => {}
                Some(found) => new.push(put(found.revision)),
            }
        }
        if !new.is_empty() {
            plan.phases[0].push(new);
        }
    }
    let users = match going.is_empty() {
        true => BTreeMap::new(),
        false => frontends_by(present, "BackendId"),
    };
    let old = going.iter().map(|host| without(present, &users, host, owner, scope));
    let mut old: Vec<_> = old.collect();
    old.extend(idle_listeners(present, desired, &going, owner, scope).map(|(id, found)| vec![gone(id, found)]));
    plan.phases[3] = old;
    plan.conflicts = conflicts;
    plan
}

fn gone(id: &Id, found: &StoredObject) -> ObjectChange {
    ObjectChange {
        id: id.clone(),
        value: None,
        lease: 0,
        observed: found.revision,
    }
}

/// Hosts with a server of the owner.
pub fn own_hosts<'a>(
    present: &'a StoredObjects,
    owner: &'a OwnerName,
    scope: &'a Scope,
) -> impl Iterator<Item = &'a str> {
    present.keys().filter_map(|id| match id {
        Id::Server { backend, id } if scope.has(id, owner) => Some(backend.as_str()),
        _ => None,
    })
}

/// Servers of a backend, by ID.
fn servers<'a>(
    present: &'a StoredObjects,
    backend: &'a str,
) -> impl Iterator<Item = (&'a Id, &'a str, &'a StoredObject)> {
    let first = Id::Server {
        backend: backend.to_owned(),
        id: String::new(),
    };
    present.range(first..).map_while(move |(key, found)| match key {
        Id::Server { backend: of, id } if of == backend => Some((key, id.as_str(), found)),
        _ => None,
    })
}

fn frontends(present: &StoredObjects) -> impl Iterator<Item = (&str, &StoredObject)> {
    present.iter().filter_map(|(id, found)| match id {
        Id::Frontend(id) => Some((id.as_str(), found)),
        _ => None,
    })
}

/// The IDs of frontends by a text of theirs, `BackendId` or `Route`.
fn frontends_by<'a>(present: &'a StoredObjects, key: &str) -> BTreeMap<String, Vec<&'a str>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (id, object) in frontends(present) {
        if let Some(text) = object.value.parse()[key].as_str() {
            found.entry(text.to_owned()).or_default().push(id);
        }
    }
    found
}

/// Vulcand does not reread the settings of a live frontend (PassHostHeader), and a listener does not move.
fn must_be_recreated(object: &VulcandObject, found: &StoredObject) -> bool {
    match object.id {
        Id::Listener(_) => !found.value.contains(&object.value),
        Id::Frontend(_) if found.value == object.value => false,
        Id::Frontend(_) => !contains(&found.value.parse()["Settings"], &object.value.parse()["Settings"]),
        Id::Backend(_) | Id::Server { .. } => false,
    }
}

/// Whether another listener has this one's address.
fn address_is_taken(present: &StoredObjects, object: &VulcandObject) -> bool {
    let address = |id: &Id, value: &JsonText| match id {
        Id::Listener(_) => {
            let value = value.parse();
            let (ip, port) = value["Address"]["Address"].as_str()?.rsplit_once(':')?;
            Some((ip.to_owned(), port.to_owned()))
        }
        _ => None,
    };
    let everywhere = |ip: &str| matches!(ip, "" | "0.0.0.0" | "[::]");
    let Some((ip, port)) = address(&object.id, &object.value) else {
        return false;
    };
    let others = present.iter().filter(|(id, _)| **id != object.id);
    let mut addresses = others.filter_map(|(id, found)| address(id, &found.value));
    addresses.any(|(their_ip, their_port)| {
        their_port == port && (their_ip == ip || everywhere(&their_ip) || everywhere(&ip))
    })
}

/// The deletions for a host, without objects that others added or use. `users` has the frontends by backend.
fn without(
    present: &StoredObjects,
    users: &BTreeMap<String, Vec<&str>>,
    host: &str,
    owner: &OwnerName,
    scope: &Scope,
) -> Vec<ObjectChange> {
    let (own, foreign): (Vec<_>, Vec<_>) = servers(present, host).partition(|(_, id, _)| scope.has(id, owner));
    let mut changes = Vec::new();
    let frontend = Id::Frontend(host.to_owned());
    if let Some(found) = present
        .get(&frontend)
        .filter(|found| found.value.parse()["BackendId"] == host)
        && foreign.is_empty()
    {
        changes.push(gone(&frontend, found));
    }
    changes.extend(own.into_iter().map(|(id, _, found)| gone(id, found)));
    let backend = Id::Backend(host.to_owned());
    let is_used = users.get(host).is_some_and(|ids| ids.iter().any(|id| *id != host));
    if let Some(found) = present.get(&backend)
        && foreign.is_empty()
        && !is_used
    {
        changes.push(gone(&backend, found));
    }
    changes
}

/// Listeners of the owner at whose port no host of any owner is left: of two owners that need the same address, only one has a listener.
fn idle_listeners<'a>(
    present: &'a StoredObjects,
    desired: &[VulcandObject],
    going: &BTreeSet<&str>,
    owner: &'a OwnerName,
    scope: &Scope,
) -> impl Iterator<Item = (&'a Id, &'a StoredObject)> {
    let staying = present.iter().filter(|(id, _)| match id {
        Id::Server { backend, id } => {
            id.starts_with(SERVER_PREFIX) && !(going.contains(backend.as_str()) && scope.has(id, owner))
        }
        _ => false,
    });
    let new = desired.iter().filter(|object| matches!(object.id, Id::Server { .. }));
    let values = staying
        .map(|(_, found)| &found.value)
        .chain(new.map(|object| &object.value));
    let needed: BTreeSet<String> = values
        .filter_map(|value| value.parse()["URL"].as_str()?.rsplit_once(':')?.1.parse().ok())
        .map(|port| listener_id(owner, port))
        .collect();
    let prefix = format!("sparkha-{owner}-");
    present.iter().filter(move |(id, _)| match id {
        Id::Listener(id) => {
            let port = id.strip_prefix(&prefix).and_then(|port| port.parse::<u16>().ok());
            port.is_some() && !needed.contains(id)
        }
        _ => false,
    })
}

fn conflicts(
    present: &StoredObjects,
    desired: &[VulcandObject],
    hosts: &BTreeSet<&str>,
    going: &BTreeSet<&str>,
) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    let mut conflict = |host: &str, reason: String| {
        conflicts.push(Conflict {
            host: host.to_owned(),
            reason,
        });
    };
    // A host whose writing was interrupted has no server or no frontend yet; nobody else writes the same objects.
    let is_foreign = |object: &VulcandObject, host: &str| {
        let found = present.get(&object.id);
        found.is_some_and(|found| !found.value.contains(&object.value)) && servers(present, host).next().is_none()
    };
    let staying: BTreeSet<&str> = present
        .keys()
        .filter_map(Id::host)
        .filter(|host| !going.contains(host))
        .chain(hosts.iter().copied())
        .collect();
    let routes = frontends_by(present, "Route");
    for object in desired {
        match &object.id {
            Id::Listener(_) => {}
            Id::Server { backend, id } => {
                if let Some((_, theirs, _)) = servers(present, backend).find(|(_, other, _)| other != id) {
                    conflict(backend, format!("its backend has server {theirs} of another owner"));
                }
            }
            Id::Backend(host) => {
                if is_foreign(object, host) {
                    let reason = "Vulcand already has a backend with this ID that sparkha does not own";
                    conflict(host, reason.into());
                }
                let mut shorter = host.char_indices().map(|(end, _)| &host[..end]);
                let longer = || staying.range::<str, _>((Excluded(host.as_str()), Unbounded)).next();
                let shorter = shorter.find_map(|prefix| staying.get(prefix));
                if let Some(other) = shorter.or_else(|| longer().filter(|other| other.starts_with(host.as_str()))) {
                    let reason = format!("Vulcand would confuse it with {other}, because it reads IDs by prefix");
                    conflict(host, reason);
                }
            }
            Id::Frontend(host) => {
                if is_foreign(object, host) {
                    let reason = "Vulcand already has a frontend with this ID that sparkha does not own";
                    conflict(host, reason.into());
                }
                let of_route = object.value.parse()["Route"]
                    .as_str()
                    .and_then(|route| routes.get(route));
                let is_other = |id: &&&str| **id != host && !going.contains(**id);
                if let Some(id) = of_route.and_then(|ids| ids.iter().find(is_other)) {
                    let reason = format!("frontend {id}, which sparkha does not own, has the same route");
                    conflict(host, reason);
                }
            }
        }
    }
    conflicts
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde_json::{Value, json};

    use super::*;
    use crate::routing::vulcand::objects;
    use crate::routing::{Role, Route, Table, UiOwner};
    use crate::spec::names::Namespace;

    const LISTEN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

    fn owner(name: &str) -> OwnerName {
        OwnerName::parse(name).unwrap()
    }

    fn in_namespace(name: &str) -> Scope {
        Scope::Namespace(Namespace::parse(name).unwrap())
    }

    fn route(namespace: &str, first_label: &str, port: u16, last: u8) -> Route {
        Route {
            host: format!("{first_label}.{namespace}.k8s"),
            port,
            target: [10, 0, 0, last].into(),
            owner: UiOwner {
                namespace: namespace.into(),
                cluster: "spark".into(),
                pod: format!("spark-{last}"),
                role: Role::Master,
            },
        }
    }

    fn desired(routes: &[Route], by: &str) -> Vec<VulcandObject> {
        let table = Table::from_routes(routes.to_vec());
        objects(&table.routes, &owner(by), LISTEN)
    }

    /// The store after these objects were written.
    fn written(objects: &[VulcandObject]) -> StoredObjects {
        let found = |(object, revision): (&VulcandObject, i64)| {
            let found = StoredObject {
                value: object.value.clone(),
                revision,
                lease: 0,
            };
            (object.id.clone(), found)
        };
        objects.iter().zip(2..).map(found).collect()
    }

    fn edit(found: &mut StoredObject, change: impl FnOnce(&mut Value)) {
        let mut value = found.value.parse();
        change(&mut value);
        found.value = value.into();
    }

    /// Changes as lines, a blank one between transactions.
    fn lines(plan: &RoutePlan) -> Vec<String> {
        let line = |change: &ObjectChange| {
            let verb = if change.value.is_some() { "put" } else { "delete" };
            format!("{verb} {} @{}", change.id, change.observed)
        };
        let pieces = plan.transactions(128);
        let pieces: Vec<Vec<_>> = pieces
            .iter()
            .map(|piece| piece.iter().copied().map(line).collect())
            .collect();
        pieces.join(&String::new())
    }

    fn planned(present: &StoredObjects, objects: &[VulcandObject], scope: &Scope) -> Vec<String> {
        lines(&plan(present, objects, &owner("a"), scope, 0))
    }

    #[test]
    fn an_empty_store_is_filled_once_in_vulcands_order() {
        let objects = desired(&[route("ns", "spark-10-0-0-1", 8080, 1)], "a");
        let plan = plan(&StoredObjects::new(), &objects, &owner("a"), &Scope::All, 0);
        assert_eq!(
            lines(&plan),
            [
                "put listener sparkha-a-8080 @0",
                "put backend spark-10-0-0-1.ns.k8s @0",
                "put server sparkha.a.ns of backend spark-10-0-0-1.ns.k8s @0",
                "put frontend spark-10-0-0-1.ns.k8s @0",
            ]
        );
        let changes = Changes::from(&plan);
        let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
        assert_eq!(
            names(&changes.written),
            ["listener sparkha-a-8080", "spark-10-0-0-1.ns.k8s"]
        );
        assert_eq!((changes.deleted.len(), changes.unchanged), (0, 0));
        let again = super::plan(&written(&objects), &objects, &owner("a"), &Scope::All, 0);
        assert_eq!(again.changes().count(), 0);
        assert_eq!(Changes::from(&again).unchanged, 1);
    }

    #[test]
    fn new_objects_are_written_before_old_ones_are_deleted() {
        let kept = route("ns", "spark-10-0-0-12", 8080, 12);
        let before = desired(&[kept.clone(), route("ns", "spark-10-0-0-1", 8081, 1)], "a");
        let after = desired(&[kept, route("ns", "spark-10-0-0-2", 8080, 2)], "a");
        assert_eq!(
            planned(&written(&before), &after, &in_namespace("ns")),
            [
                "put backend spark-10-0-0-2.ns.k8s @0",
                "put server sparkha.a.ns of backend spark-10-0-0-2.ns.k8s @0",
                "put frontend spark-10-0-0-2.ns.k8s @0",
                "",
                "delete frontend spark-10-0-0-1.ns.k8s @6",
                "delete server sparkha.a.ns of backend spark-10-0-0-1.ns.k8s @5",
                "delete backend spark-10-0-0-1.ns.k8s @4",
                "delete listener sparkha-a-8081 @3",
            ]
        );
    }

    #[test]
    fn a_leader_change_is_one_write() {
        let before = desired(&[route("ns", "spark-master", 8080, 1)], "a");
        let after = desired(&[route("ns", "spark-master", 8080, 2)], "a");
        assert_eq!(
            planned(&written(&before), &after, &Scope::All),
            ["put server sparkha.a.ns of backend spark-master.ns.k8s @4"]
        );
    }

    #[test]
    fn other_namespaces_and_owners_are_left_alone() {
        let of = |namespace: &str, by: &str| desired(&[route(namespace, "spark-master", 8080, 1)], by);
        let all = [of("dev", "a"), of("dev2", "a"), of("live", "b")].concat();
        let present = written(&all);
        let deletes_of = |namespace: &str| {
            ["frontend {}", "server sparkha.a.{} of backend {}", "backend {}"].map(|what| {
                let host = format!("spark-master.{namespace}.k8s");
                format!(
                    "delete {}",
                    what.replacen("a.{}", &format!("a.{namespace}"), 1).replace("{}", &host)
                )
            })
        };
        let ids = |lines: Vec<String>| -> Vec<_> {
            lines
                .iter()
                .map(|line| line.split(" @").next().unwrap().to_owned())
                .collect()
        };
        // The listener stays: dev2 uses it, and so does another owner's host.
        assert_eq!(ids(planned(&present, &[], &in_namespace("dev"))), deletes_of("dev"));
        assert_eq!(
            ids(planned(&present, &[], &Scope::All)),
            [deletes_of("dev"), deletes_of("dev2")].concat()
        );
        let alone = written(&[of("dev", "a"), of("dev2", "a")].concat());
        assert_eq!(
            ids(planned(&alone, &[], &Scope::All)).last().unwrap(),
            "delete listener sparkha-a-8080"
        );
    }

    #[test]
    fn a_frontend_with_other_settings_is_recreated() {
        let objects = desired(&[route("ns", "spark-master", 8080, 1)], "a");
        let mut present = written(&objects);
        let frontend = Id::Frontend("spark-master.ns.k8s".into());
        let found = present.get_mut(&frontend).unwrap();
        edit(found, |value| value["Settings"]["PassHostHeader"] = json!(false));
        let plan = plan(&present, &objects, &owner("a"), &Scope::All, 0);
        assert_eq!(
            lines(&plan),
            [
                "delete frontend spark-master.ns.k8s @5",
                "",
                "put frontend spark-master.ns.k8s @0",
            ]
        );
        assert!(Changes::from(&plan).deleted.is_empty());
    }

    #[test]
    fn fields_added_by_vulcand_are_no_difference() {
        let objects = desired(&[route("ns", "spark-master", 8080, 1)], "a");
        let mut present = written(&objects);
        for (id, found) in &mut present {
            edit(found, |value| {
                value["Id"] = json!(id.to_string());
                value["Settings"]["Stream"] = json!(false);
            });
        }
        assert!(planned(&present, &objects, &Scope::All).is_empty());
    }

    #[test]
    fn a_lease_that_differs_is_written() {
        let objects = desired(&[route("ns", "spark-master", 8080, 1)], "a");
        let with_lease = plan(&written(&objects), &objects, &owner("a"), &Scope::All, 7);
        assert_eq!(
            lines(&with_lease),
            [
                "put backend spark-master.ns.k8s @3",
                "put server sparkha.a.ns of backend spark-master.ns.k8s @4",
                "put frontend spark-master.ns.k8s @5",
            ]
        );
        assert!(with_lease.changes().all(|change| change.lease == 7));
        let mut leased = written(&objects);
        for (id, found) in &mut leased {
            found.lease = if id.host().is_some() { 7 } else { 0 };
        }
        let kept = plan(&leased, &objects, &owner("a"), &Scope::All, 7);
        assert_eq!(kept.changes().count(), 0);
        let without = plan(&leased, &objects, &owner("a"), &Scope::All, 0);
        assert_eq!(without.changes().count(), 3);
    }

    #[test]
    fn hosts_are_never_split_between_transactions() {
        let routes: Vec<_> = (0..300)
            .map(|n| {
                route(
                    "ns",
                    &format!("spark-10-0-{}-{}", n / 250, n % 250),
                    8080 + n % 2,
                    (n % 250) as u8,
                )
            })
            .collect();
        let objects = desired(&routes, "a");
        for plan in [
            plan(&StoredObjects::new(), &objects, &owner("a"), &Scope::All, 0),
            plan(&written(&objects), &[], &owner("a"), &Scope::All, 0),
        ] {
            let pieces = plan.transactions(128);
            assert_eq!(pieces.len(), 8, "42 hosts in each");
            assert!(pieces.iter().all(|piece| piece.len() <= 128));
            let flat: Vec<_> = pieces.concat();
            assert_eq!(flat, plan.changes().collect::<Vec<_>>());
            for route in &routes {
                let has =
                    |piece: &&Vec<&ObjectChange>| piece.iter().any(|change| change.id.host() == Some(&route.host));
                assert_eq!(pieces.iter().filter(has).count(), 1, "{}", route.host);
            }
        }
    }

    fn conflict(present: &StoredObjects, routes: &[Route]) -> String {
        let plan = plan(present, &desired(routes, "a"), &owner("a"), &Scope::All, 0);
        let conflicts = plan.without_conflicts().unwrap_err();
        conflicts.iter().map(Conflict::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn objects_of_others_are_conflicts() {
        let routes = [route("ns", "spark-master", 8080, 1)];
        let host = "spark-master.ns.k8s";
        let mut present = written(&desired(&routes, "b"));
        assert_eq!(
            conflict(&present, &routes),
            "spark-master.ns.k8s: its backend has server sparkha.b.ns of another owner"
        );
        present.retain(|id, _| *id == Id::Frontend(host.into()));
        present
            .values_mut()
            .for_each(|found| edit(found, |value| value["BackendId"] = json!("shop")));
        assert_eq!(
            conflict(&present, &routes),
            "spark-master.ns.k8s: Vulcand already has a frontend with this ID that sparkha does not own"
        );
        let foreign = |id| VulcandObject {
            id,
            value: json!({"Type": "http", "BackendId": "shop", "Route": format!("Host(`{host}`)")}).into(),
        };
        assert_eq!(
            conflict(&written(&[foreign(Id::Backend(host.into()))]), &routes),
            "spark-master.ns.k8s: Vulcand already has a backend with this ID that sparkha does not own"
        );
        assert_eq!(
            conflict(&written(&[foreign(Id::Frontend("shop".into()))]), &routes),
            "spark-master.ns.k8s: frontend shop, which sparkha does not own, has the same route"
        );
        assert_eq!(
            conflict(&written(&[foreign(Id::Backend(format!("{host}.example")))]), &routes),
            "spark-master.ns.k8s: Vulcand would confuse it with spark-master.ns.k8s.example, because it reads IDs by prefix"
        );
    }

    #[test]
    fn an_interrupted_write_is_completed() {
        let objects = desired(&[route("ns", "spark-master", 8080, 1)], "a");
        for there in 0..objects.len() {
            let present = written(&objects[..there]);
            assert_eq!(planned(&present, &objects, &Scope::All).len(), objects.len() - there);
        }
    }

    #[test]
    fn an_address_has_one_listener() {
        let routes = [
            route("ns", "spark-master", 8080, 1),
            route("ns", "spark-worker", 8081, 2),
        ];
        let mut present = written(&[VulcandObject {
            id: Id::Listener("web".into()),
            value: json!({"Protocol": "http", "Address": {"Network": "tcp", "Address": "192.0.2.1:8080"}}).into(),
        }]);
        let listeners = |present: &StoredObjects, objects: &[VulcandObject]| -> Vec<_> {
            let lines = planned(present, objects, &Scope::All);
            lines.into_iter().filter(|line| line.contains("listener")).collect()
        };
        assert_eq!(
            listeners(&present, &desired(&routes, "a")),
            ["put listener sparkha-a-8081 @0"]
        );
        // The owner's own listener moves.
        present = written(&desired(&routes[1..], "a"));
        assert_eq!(
            listeners(&present, &objects(&routes[1..], &owner("a"), [192, 0, 2, 9].into())),
            ["delete listener sparkha-a-8081 @2", "put listener sparkha-a-8081 @0"]
        );
    }

    #[test]
    fn a_conflict_leaves_out_its_host_alone() {
        let routes = [
            route("ns", "shop-master", 8080, 1),
            route("ns", "spark-master", 8080, 2),
        ];
        // Both had a route before.
        let mut present = written(&desired(&[route("ns", "shop-master", 8080, 9)], "a"));
        let theirs = Id::Server {
            backend: "shop-master.ns.k8s".into(),
            id: "canary".into(),
        };
        present.insert(theirs, StoredObject::default());
        let plan = plan(&present, &desired(&routes, "a"), &owner("a"), &Scope::All, 0);
        assert_eq!(
            lines(&plan),
            [
                // The old address may be another pod's by now.
                "put server sparkha.a.ns of backend shop-master.ns.k8s @4",
                "put backend spark-master.ns.k8s @0",
                "put server sparkha.a.ns of backend spark-master.ns.k8s @0",
                "put frontend spark-master.ns.k8s @0",
            ]
        );
        let changes = Changes::from(&plan);
        assert_eq!(changes.unchanged, 0);
        let hosts: Vec<_> = changes.conflicts.iter().map(|conflict| &conflict.host).collect();
        assert_eq!(hosts, ["shop-master.ns.k8s"]);
    }

    #[test]
    fn hosts_with_which_the_api_would_delete_others_are_left_out() {
        let routes = ["etl-master", "spark-master"].map(|name| route("ns", name, 8080, 1));
        let mut present = written(&desired(&routes, "a"));
        let plan = |present: &StoredObjects| {
            let mut plan = plan(present, &[], &owner("a"), &Scope::All, 0);
            plan.order_for_prefixes(present);
            Changes::from(&plan)
        };
        let all = plan(&present);
        assert_eq!((all.deleted.len(), all.conflicts.len()), (3, 0));
        present.insert(Id::Backend("spark-master.ns.k8s2".into()), StoredObject::default());
        let changes = plan(&present);
        let deleted: Vec<_> = changes.deleted.iter().collect();
        assert_eq!(deleted, ["etl-master.ns.k8s"], "not the listener of the other");
        assert_eq!(changes.conflicts.len(), 1);
        assert_eq!(changes.conflicts[0].host, "spark-master.ns.k8s");
    }

    #[test]
    fn a_host_that_would_take_along_a_new_one_is_deleted_first() {
        let mut longer = route("ns", "spark-master", 8080, 1);
        longer.host += ".example.com";
        let present = written(&desired(&[route("ns", "spark-master", 8080, 1)], "a"));
        let mut plan = plan(&present, &desired(&[longer], "a"), &owner("a"), &Scope::All, 0);
        plan.order_for_prefixes(&present);
        assert!(plan.conflicts.is_empty());
        assert_eq!(
            lines(&plan),
            [
                "delete frontend spark-master.ns.k8s @5",
                "delete server sparkha.a.ns of backend spark-master.ns.k8s @4",
                "delete backend spark-master.ns.k8s @3",
                "put backend spark-master.ns.k8s.example.com @0",
                "put server sparkha.a.ns of backend spark-master.ns.k8s.example.com @0",
                "put frontend spark-master.ns.k8s.example.com @0",
            ]
        );
    }

    #[test]
    fn servers_that_others_added_to_a_host_stay() {
        let objects = desired(&[route("ns", "spark-master", 8080, 1)], "a");
        let mut present = written(&objects);
        let theirs = Id::Server {
            backend: "spark-master.ns.k8s".into(),
            id: "canary".into(),
        };
        present.insert(theirs, StoredObject::default());
        assert_eq!(
            planned(&present, &[], &Scope::All),
            [
                "delete server sparkha.a.ns of backend spark-master.ns.k8s @4",
                "delete listener sparkha-a-8080 @2",
            ]
        );
    }
}
