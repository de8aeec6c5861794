//! The resources that teardown removes, on Kubernetes or on this machine.

use std::time::Duration;

use kube::ResourceExt;

use crate::console::progress::Progress;
use crate::lifecycle::external_zookeeper::Znodes;
use crate::lifecycle::place::Place;
use crate::lifecycle::{Error, local, teardown};
use crate::platform::kubernetes::Cluster;
use crate::spec::names::ClusterName;

/// The resources that teardown removes.
pub enum OwnedResources {
    Kubernetes(Cluster, ClusterName, Box<teardown::KubernetesResources>),
    Local(local::teardown::LocalResources),
}

impl OwnedResources {
    /// Names of the volume claims that hold data.
    pub fn claims(&self) -> Vec<String> {
        match self {
            OwnedResources::Kubernetes(_, _, owned) => owned.claims.iter().map(ResourceExt::name_any).collect(),
            OwnedResources::Local(owned) => owned.claims.clone(),
        }
    }

    /// Description of the znodes in an external ZooKeeper.
    pub fn znodes(&self) -> Option<&str> {
        match self {
            OwnedResources::Kubernetes(_, _, owned) => owned.znodes.as_deref(),
            OwnedResources::Local(owned) => owned.znodes.as_deref(),
        }
    }

    pub async fn remove(self, options: &teardown::TeardownOptions, progress: &Progress) -> Result<(), Error> {
        match self {
            OwnedResources::Kubernetes(cluster, name, owned) => {
                teardown::teardown(&cluster, &name, *owned, options, progress).await
            }
            OwnedResources::Local(owned) => {
                local::teardown::teardown(owned, options.keep_claims, options.znodes, progress).await
            }
        }
    }
}

/// The cluster's resources, once no other command holds the lock. `None` if there is no such cluster.
pub async fn owned_resources(place: &Place) -> Result<Option<OwnedResources>, Error> {
    Ok(match place {
        Place::Kubernetes(cluster, name) => {
            let found = teardown::owned_resources(cluster, name).await?;
            found.map(|owned| OwnedResources::Kubernetes(cluster.clone(), name.clone(), owned.into()))
        }
        Place::Local(dir) => local::teardown::owned_resources(dir)?.map(OwnedResources::Local),
    })
}

/// Removes the cluster with all its resources.
pub async fn teardown(place: &Place, timeout: Duration, progress: &Progress) -> Result<(), Error> {
    let options = teardown::TeardownOptions {
        timeout,
        keep_claims: false,
        znodes: Znodes::Remove,
        force: false,
    };
    match owned_resources(place).await? {
        Some(owned) => owned.remove(&options, progress).await,
        None => Ok(()),
    }
}
