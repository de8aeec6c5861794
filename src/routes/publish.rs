//! Writes routes to Vulcand, into its etcd or through its API, and only the differences. Lost routes (etcd restored without them, an expired lease)
//! are back after the next [`RoutePublisher::reconcile`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::clients::etcd::{Etcd, KeyWrite, MAX_OPERATIONS};
use crate::clients::vulcand::VulcandApi;
use crate::lifecycle::Error;
use crate::routing::Route;
use crate::routing::vulcand::diff::{self, Changes, ObjectChange, RoutePlan, StoredObject, StoredObjects};
use crate::routing::vulcand::{Id, JsonText, Scope, objects};
use crate::spec::names::OwnerName;

/// How often everything is reread because of another writer.
const TRIES: u32 = 5;

/// The Vulcand that routes are written to, their owner, and how.
pub struct RoutePublisher {
    pub server: VulcandStore,
    pub owner: OwnerName,
    /// Address on which Vulcand listens.
    pub listen: IpAddr,
    /// How long routes outlive the last [`RoutePublisher::reconcile`] or [`RoutePublisher::keep_alive`]; forever if `None`.
    pub ttl: Option<Duration>,
}

/// Access to Vulcand's objects.
pub enum VulcandStore {
    Etcd {
        etcd: Etcd,
        /// Root of Vulcand's keys, without a trailing slash.
        root: String,
        /// The lease of our keys, if known.
        lease: Option<i64>,
    },
    Api {
        api: VulcandApi,
        /// Objects that must be rewritten to renew their time to live, in the order in which they are written.
        kept: BTreeMap<Id, JsonText>,
    },
}

/// What to do if objects of somebody else block a host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Write nothing.
    Refuse,
    /// Write all other hosts.
    LeaveOut,
}

impl RoutePublisher {
    /// Makes Vulcand match the table within the scope. Safe to interrupt and to repeat.
    pub async fn reconcile(
        &mut self,
        routes: &[Route],
        scope: &Scope,
        on_conflict: OnConflict,
    ) -> Result<Changes, Error> {
        let mut changes = Changes::default();
        for _ in 0..TRIES {
            let present = self.present().await?;
            let lease = self.lease(&present, scope, !routes.is_empty()).await?;
            let mut plan = self.compare(&present, routes, scope, lease);
            if on_conflict == OnConflict::Refuse {
                plan = plan.without_conflicts().map_err(Error::RouteConflict)?;
            }
            match self.write(&plan, &mut changes).await {
                Ok(true) => {
                    changes.finish(&plan);
                    self.refresh(routes, &plan).await?;
                    return Ok(changes);
                }
                Ok(false) => tracing::info!("another writer changed etcd; rereading everything"),
                // It expired between lookup and use.
                Err(Error::Etcd(error)) if error.is_lease_gone() => self.forget_lease(),
                Err(error) => return Err(error),
            }
        }
        Err(Error::RoutesContended { tries: TRIES })
    }

    /// What [`RoutePublisher::reconcile`] would do, unless there are conflicts. Writes nothing.
    pub async fn plan(&mut self, routes: &[Route], scope: &Scope) -> Result<RoutePlan, Error> {
        let present = self.present().await?;
        let lease = match (&self.server, self.ttl) {
            // A lease still to be granted differs from every lease in the store.
            (VulcandStore::Etcd { .. }, Some(_)) => self.lease_of_ours(&present, scope).unwrap_or(-1),
            _ => 0,
        };
        let plan = self.compare(&present, routes, scope, lease);
        plan.without_conflicts().map_err(Error::RouteConflict)
    }

    /// The differences from the table, leases aside. Writes nothing.
    pub async fn differences(&mut self, routes: &[Route], scope: &Scope) -> Result<RoutePlan, Error> {
        let mut present = self.present().await?;
        present.values_mut().for_each(|found| found.lease = 0);
        Ok(self.compare(&present, routes, scope, 0))
    }

    /// Renews the time to live of the routes. `false` if they have expired: call [`RoutePublisher::reconcile`] at once.
    pub async fn keep_alive(&mut self) -> Result<bool, Error> {
        let Some(ttl) = self.ttl else { return Ok(true) };
        match &mut self.server {
            VulcandStore::Etcd { etcd, lease, .. } => {
                if let Some(id) = *lease
                    && etcd.keep_alive(id).await?.is_none()
                {
                    *lease = None;
                    return Ok(false);
                }
            }
            VulcandStore::Api { api, kept } => write_again(api, kept, Some(ttl)).await?,
        }
        Ok(true)
    }

    fn compare(&self, present: &StoredObjects, routes: &[Route], scope: &Scope, lease: i64) -> RoutePlan {
        let desired = objects(routes, &self.owner, self.listen);
        let mut plan = diff::plan(present, &desired, &self.owner, scope, lease);
        if let VulcandStore::Api { .. } = self.server {
            plan.order_for_prefixes(present);
        }
        plan
    }

    async fn present(&mut self) -> Result<StoredObjects, Error> {
        match &mut self.server {
            VulcandStore::Etcd { etcd, root, .. } => {
                let entries = etcd.range(&format!("{root}/")).await?;
                let found = entries.into_iter().filter_map(|entry| {
                    let id = Id::of_key(root, &entry.key)?;
                    let (value, revision, lease) = (entry.value.into(), entry.revision, entry.lease);
                    Some((id, StoredObject { value, revision, lease }))
                });
                Ok(found.collect())
            }
            VulcandStore::Api { api, .. } => Ok(api.list().await?),
        }
    }

    /// The lease for our keys: the current one if it can be renewed and has the right time to live, or else a new one. 0 if none is needed.
    async fn lease(&mut self, present: &StoredObjects, scope: &Scope, is_needed: bool) -> Result<i64, Error> {
        let known = self.lease_of_ours(present, scope);
        let (VulcandStore::Etcd { etcd, lease, .. }, Some(ttl), true) = (&mut self.server, self.ttl, is_needed) else {
            return Ok(0);
        };
        // First that of the keys: another watch may have made it at the same time, and one lease must be left.
        for id in known.into_iter().chain(*lease) {
            if etcd.keep_alive(id).await? == Some(ttl) {
                *lease = Some(id);
                return Ok(id);
            }
        }
        let id = etcd.grant(ttl).await?;
        *lease = Some(id);
        Ok(id)
    }

    /// The lease of our keys within the scope, unless other keys share it: those must not live on because of us.
    fn lease_of_ours(&self, present: &StoredObjects, scope: &Scope) -> Option<i64> {
        let hosts: BTreeSet<_> = diff::own_hosts(present, &self.owner, scope).collect();
        let is_ours = |id: &Id| id.host().is_some_and(|host| hosts.contains(host));
        let lease = present
            .iter()
            .find(|(id, found)| is_ours(id) && found.lease != 0)?
            .1
            .lease;
        let mut with_it = present.iter().filter(|(_, found)| found.lease == lease);
        with_it.all(|(id, _)| is_ours(id)).then_some(lease)
    }

    fn forget_lease(&mut self) {
        if let VulcandStore::Etcd { lease, .. } = &mut self.server {
            *lease = None;
        }
    }

    /// Writes piece by piece; `false` if an object has changed since it was read.
    async fn write(&mut self, plan: &RoutePlan, changes: &mut Changes) -> Result<bool, Error> {
        for piece in plan.transactions(MAX_OPERATIONS) {
            match &mut self.server {
                VulcandStore::Etcd { etcd, root, .. } => {
                    let writes: Vec<_> = piece.iter().map(|change| as_write(change, root)).collect();
                    if !etcd.write(&writes).await? {
                        return Ok(false);
                    }
                }
                VulcandStore::Api { api, kept } => {
                    for change in &piece {
                        match &change.value {
                            Some(value) => api.put(&change.id, value, self.ttl).await?,
                            // Deleting a backend deletes its servers. One by one, an interruption would leave a backend without an owner.
                            None if goes_with_backend(&change.id, &piece) => {}
                            None => api.delete(&change.id).await?,
                        }
                        // A failure of the next one must not renew the value before.
                        match &change.value {
                            Some(value) => kept.insert(change.id.clone(), value.clone()),
                            None => kept.remove(&change.id),
                        };
                    }
                }
            }
            piece.into_iter().for_each(|change| changes.note(change));
        }
        Ok(true)
    }

    /// Through the API, objects must be rewritten even if they did not change: it does not tell how long they live.
    async fn refresh(&mut self, routes: &[Route], plan: &RoutePlan) -> Result<(), Error> {
        let VulcandStore::Api { api, kept } = &mut self.server else {
            return Ok(());
        };
        let is_left_out = |id: &Id| id.host().is_some_and(|host| plan.leaves_out(host));
        let desired = objects(routes, &self.owner, self.listen).into_iter();
        *kept = desired
            .filter(|object| !is_left_out(&object.id))
            .map(|object| (object.id, object.value))
            .collect();
        let mut unchanged = kept.clone();
        plan.changes().for_each(|change| drop(unchanged.remove(&change.id)));
        write_again(api, &unchanged, self.ttl).await
    }
}

async fn write_again(api: &VulcandApi, objects: &BTreeMap<Id, JsonText>, ttl: Option<Duration>) -> Result<(), Error> {
    for (id, value) in objects {
        if matches!(id, Id::Server { .. } | Id::Frontend(_)) {
            api.put(id, value, ttl).await?;
        }
    }
    Ok(())
}

fn as_write(change: &ObjectChange, root: &str) -> KeyWrite {
    KeyWrite {
        key: change.id.key(root),
        value: change.value.as_ref().map(ToString::to_string),
        lease: change.lease,
        expected_revision: change.observed,
    }
}

fn goes_with_backend(id: &Id, piece: &[&ObjectChange]) -> bool {
    match id {
        Id::Server { backend, .. } => piece
            .iter()
            .any(|change| change.value.is_none() && change.id == Id::Backend(backend.clone())),
        _ => false,
    }
}
