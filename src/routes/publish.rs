//! Writing routes to Vulcand, into its etcd or by its API, and nothing but the difference. Whoever loses what was written (an etcd restored
//! from nothing, a lease that ran out) has it back after the next [`Target::reconcile`].

use std::net::IpAddr;
use std::time::Duration;

use crate::clients::etcd::{Etcd, KeyWrite, MAX_OPERATIONS};
use crate::clients::vulcand::VulcandApi;
use crate::lifecycle::Error;
use crate::routing::Route;
use crate::routing::vulcand::diff::{self, Change, Changes, Found, Plan, Present};
use crate::routing::vulcand::{Id, Object, Scope, objects};
use crate::spec::names::OwnerName;

/// How often everything is read anew because somebody else wrote meanwhile.
const TRIES: u32 = 5;

/// Where routes are written, in whose name, and how.
pub struct Target {
    pub server: Server,
    pub owner: OwnerName,
    /// Address at which Vulcand listens.
    pub listen: IpAddr,
    /// How long routes outlive the last [`Target::reconcile`] or [`Target::keep_alive`]; for ever if `None`.
    pub ttl: Option<Duration>,
}

/// Through what.
pub enum Server {
    Etcd {
        etcd: Etcd,
        /// Root of Vulcand's keys, without a slash at its end.
        root: String,
        /// The lease on which our keys are, as far as it is known.
        lease: Option<i64>,
    },
    Api {
        api: VulcandApi,
        /// What has to be written again and again with a time to live.
        kept: Vec<Object>,
    },
}

impl Target {
    /// Makes what is there within the scope be what is in the table. Safe to cut off and to repeat.
    pub async fn reconcile(&mut self, routes: &[Route], scope: &Scope) -> Result<Changes, Error> {
        let mut changes = Changes::default();
        for _ in 0..TRIES {
            let present = self.present().await?;
            let lease = self.lease(&present, scope, !routes.is_empty()).await?;
            let plan = self.compare(&present, routes, scope, lease)?;
            let outcome = self.write(&plan, &mut changes).await;
            match outcome {
                Ok(true) => {
                    changes.finish(&plan);
                    self.refresh(routes, &plan).await?;
                    return Ok(changes);
                }
                Ok(false) => tracing::info!("somebody else wrote to etcd; reading everything again"),
                // It ran out between being found and being used.
                Err(Error::Etcd(error)) if error.is_lease_gone() => self.forget_lease(),
                Err(error) => return Err(error),
            }
        }
        Err(Error::RoutesContended { tries: TRIES })
    }

    /// What [`Target::reconcile`] would do. Writes nothing.
    pub async fn plan(&mut self, routes: &[Route], scope: &Scope) -> Result<Plan, Error> {
        let present = self.present().await?;
        let lease = match (&self.server, self.ttl) {
            // A lease that would be made anew is like none that is there.
            (Server::Etcd { .. }, Some(_)) => self.lease_of_ours(&present, scope).unwrap_or(-1),
            _ => 0,
        };
        self.compare(&present, routes, scope, lease)
    }

    /// What differs from the table, however long it lasts. Writes nothing.
    pub async fn differences(&mut self, routes: &[Route], scope: &Scope) -> Result<Plan, Error> {
        let mut present = self.present().await?;
        present.values_mut().for_each(|found| found.lease = 0);
        self.compare(&present, routes, scope, 0)
    }

    /// Makes routes with a time to live last for all of it again. `false` if they have gone already: then [`Target::reconcile`] at once.
    pub async fn keep_alive(&mut self) -> Result<bool, Error> {
        let Some(ttl) = self.ttl else { return Ok(true) };
        match &mut self.server {
            Server::Etcd { etcd, lease, .. } => {
                if let Some(id) = *lease
                    && etcd.keep_alive(id).await?.is_none()
                {
                    *lease = None;
                    return Ok(false);
                }
            }
            Server::Api { api, kept } => write_again(api, kept, ttl).await?,
        }
        Ok(true)
    }

    fn compare(&self, present: &Present, routes: &[Route], scope: &Scope, lease: i64) -> Result<Plan, Error> {
        let wanted = objects(routes, &self.owner, self.listen);
        let plan = diff::plan(present, &wanted, &self.owner, scope, lease).map_err(Error::RouteConflict)?;
        let swallowed = match self.server {
            Server::Etcd { .. } => Vec::new(),
            Server::Api { .. } => plan.swallowed(present),
        };
        match swallowed.is_empty() {
            true => Ok(plan),
            false => Err(Error::RouteConflict(swallowed)),
        }
    }

    async fn present(&mut self) -> Result<Present, Error> {
        match &mut self.server {
            Server::Etcd { etcd, root, .. } => {
                let entries = etcd.range(&format!("{root}/")).await?;
                let found = entries.into_iter().filter_map(|entry| {
                    let found = Found {
                        // Nobody's words but ours are compared with ours.
                        value: serde_json::from_slice(&entry.value).unwrap_or_default(),
                        revision: entry.revision,
                        lease: entry.lease,
                    };
                    Some((Id::of_key(root, &entry.key)?, found))
                });
                Ok(found.collect())
            }
            Server::Api { api, .. } => Ok(api.list().await?),
        }
    }

    /// The lease for our keys: the one they have, if it can be prolonged and has the wanted time to live, or else a new one. 0 if none is wanted.
    async fn lease(&mut self, present: &Present, scope: &Scope, is_needed: bool) -> Result<i64, Error> {
        let known = self.lease_of_ours(present, scope);
        let (Server::Etcd { etcd, lease, .. }, Some(ttl), true) = (&mut self.server, self.ttl, is_needed) else {
            return Ok(0);
        };
        if let Some(id) = lease.or(known)
            && etcd.keep_alive(id).await? == Some(ttl)
        {
            *lease = Some(id);
            return Ok(id);
        }
        let id = etcd.grant(ttl).await?;
        *lease = Some(id);
        Ok(id)
    }

    /// The lease of our keys within the scope, unless others are on it too: they must not live on because of us.
    fn lease_of_ours(&self, present: &Present, scope: &Scope) -> Option<i64> {
        let hosts: Vec<_> = diff::own_hosts(present, &self.owner, scope).collect();
        let is_ours = |id: &Id| id.host().is_some_and(|host| hosts.contains(&host));
        let lease = present
            .iter()
            .find(|(id, found)| is_ours(id) && found.lease != 0)?
            .1
            .lease;
        let mut with_it = present.iter().filter(|(_, found)| found.lease == lease);
        with_it.all(|(id, _)| is_ours(id)).then_some(lease)
    }

    fn forget_lease(&mut self) {
        if let Server::Etcd { lease, .. } = &mut self.server {
            *lease = None;
        }
    }

    /// Writes piece by piece; `false` if something is no longer as it was when it was read.
    async fn write(&mut self, plan: &Plan, changes: &mut Changes) -> Result<bool, Error> {
        for piece in plan.transactions(MAX_OPERATIONS) {
            match &mut self.server {
                Server::Etcd { etcd, root, .. } => {
                    let writes: Vec<_> = piece.iter().map(|change| as_write(change, root)).collect();
                    if !etcd.write(&writes).await? {
                        return Ok(false);
                    }
                }
                Server::Api { api, .. } => {
                    for change in &piece {
                        match &change.value {
                            Some(value) => api.put(&change.id, value, self.ttl).await?,
                            // A backend takes its servers with it; one by one, what is cut off between would be nobody's.
                            None if goes_with_backend(&change.id, &piece) => {}
                            None => api.delete(&change.id).await?,
                        }
                    }
                }
            }
            piece.iter().for_each(|change| changes.note(change));
        }
        Ok(true)
    }

    /// By the API, what has a time to live must be written again though it did not change.
    async fn refresh(&mut self, routes: &[Route], plan: &Plan) -> Result<(), Error> {
        let wanted = objects(routes, &self.owner, self.listen);
        let (Server::Api { api, kept }, Some(ttl)) = (&mut self.server, self.ttl) else {
            return Ok(());
        };
        let is_new = |id: &Id| plan.changes().any(|change| change.id == *id);
        let unchanged: Vec<_> = wanted.iter().filter(|object| !is_new(&object.id)).cloned().collect();
        *kept = wanted;
        write_again(api, &unchanged, ttl).await
    }
}

/// Servers before the frontends that lead to them.
async fn write_again(api: &VulcandApi, objects: &[Object], ttl: Duration) -> Result<(), Error> {
    for object in objects {
        if matches!(object.id, Id::Server { .. } | Id::Frontend(_)) {
            api.put(&object.id, &object.value, Some(ttl)).await?;
        }
    }
    Ok(())
}

fn as_write(change: &Change, root: &str) -> KeyWrite {
    KeyWrite {
        key: change.id.key(root),
        value: change.value.as_ref().map(ToString::to_string),
        lease: change.lease,
        expected_revision: change.seen,
    }
}

fn goes_with_backend(id: &Id, piece: &[Change]) -> bool {
    match id {
        Id::Server { backend, .. } => piece
            .iter()
            .any(|change| change.value.is_none() && change.id == Id::Backend(backend.clone())),
        _ => false,
    }
}
