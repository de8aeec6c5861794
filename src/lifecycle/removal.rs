//! What a teardown removes, on Kubernetes or on this machine.

use std::time::Duration;

use kube::ResourceExt;

use crate::console::progress::Progress;
use crate::lifecycle::external_zookeeper::Znodes;
use crate::lifecycle::place::Place;
use crate::lifecycle::{Error, local, teardown};
use crate::platform::kubernetes::Cluster;
use crate::spec::names::ClusterName;

/// What a teardown removes.
pub enum Belongings {
    Kubernetes(Cluster, ClusterName, Box<teardown::Belongings>),
    Local(local::teardown::Belongings),
}

impl Belongings {
    /// Names of volume claims with data.
    pub fn claims(&self) -> Vec<String> {
        match self {
            Belongings::Kubernetes(_, _, belongings) => belongings.claims.iter().map(ResourceExt::name_any).collect(),
            Belongings::Local(belongings) => belongings.claims.clone(),
        }
    }

    /// The znodes in an external ZooKeeper, in words.
    pub fn znodes(&self) -> Option<&str> {
        match self {
            Belongings::Kubernetes(_, _, belongings) => belongings.znodes.as_deref(),
            Belongings::Local(belongings) => belongings.znodes.as_deref(),
        }
    }

    pub async fn remove(self, options: &teardown::Options, progress: &Progress) -> Result<(), Error> {
        match self {
            Belongings::Kubernetes(cluster, name, belongings) => {
                teardown::teardown(&cluster, &name, *belongings, options, progress).await
            }
            Belongings::Local(belongings) => {
                local::teardown::teardown(belongings, options.keep_claims, options.znodes, progress).await
            }
        }
    }
}

/// What the cluster has, once nobody else works on it; `None` if there is no such cluster.
pub async fn belongings(place: &Place) -> Result<Option<Belongings>, Error> {
    Ok(match place {
        Place::Kubernetes(cluster, name) => {
            let found = teardown::belongings(cluster, name).await?;
            found.map(|belongings| Belongings::Kubernetes(cluster.clone(), name.clone(), belongings.into()))
        }
        Place::Local(dir) => local::teardown::belongings(dir)?.map(Belongings::Local),
    })
}

/// Removes the cluster with all that it has.
pub async fn teardown(place: &Place, timeout: Duration, progress: &Progress) -> Result<(), Error> {
    let options = teardown::Options {
        timeout,
        keep_claims: false,
        znodes: Znodes::Remove,
        force: false,
    };
    match belongings(place).await? {
        Some(belongings) => belongings.remove(&options, progress).await,
        None => Ok(()),
    }
}
