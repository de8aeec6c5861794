//! Where a cluster runs: in a Kubernetes namespace or in a folder of this machine. Has the operations that are the same
//! for both.

use k8s_openapi::api::core::v1::ConfigMap;

use crate::lifecycle::Error;
use crate::lifecycle::inventory::{inventory_object, read_inventory};
use crate::lifecycle::local::{desired_of, inventory_of};
use crate::model::kind::Kind;
use crate::model::labels::{ALIAS, MANAGED_BY, SPARKHA, is_of_cluster};
use crate::platform::kubernetes::{self, Cluster};
use crate::platform::local::store::{ClusterDir, Store};
use crate::render::inventory::{Inventory, Summary};
use crate::spec::names::{ClusterName, Namespace};

/// Location and name of a cluster.
#[derive(Clone)]
pub enum Place {
    Kubernetes(Cluster, ClusterName),
    Local(ClusterDir),
}

impl Place {
    pub fn name(&self) -> &ClusterName {
        match self {
            Place::Kubernetes(_, name) => name,
            Place::Local(dir) => &dir.name,
        }
    }

    pub fn namespace(&self) -> &Namespace {
        match self {
            Place::Kubernetes(cluster, _) => cluster.namespace(),
            Place::Local(dir) => &dir.namespace,
        }
    }

    /// Another cluster in the same namespace.
    pub fn sibling(&self, name: &ClusterName) -> Self {
        match self {
            Place::Kubernetes(cluster, _) => Place::Kubernetes(cluster.clone(), name.clone()),
            Place::Local(dir) => Place::Local(dir.sibling(name)),
        }
    }

    /// # Errors
    /// Fails if there is no such cluster.
    pub async fn inventory(&self) -> Result<Inventory, Error> {
        match self {
            Place::Kubernetes(cluster, name) => read_inventory(&inventory_object(cluster, name).await?),
            Place::Local(dir) => Ok(desired_of(dir)?.1),
        }
    }

    /// The inventory. `None` if there is none or it may not be read.
    pub async fn existing(&self) -> Result<Option<Inventory>, Error> {
        match self {
            Place::Kubernetes(cluster, name) => {
                let object = match cluster.get(Kind::ConfigMap, &name.inventory()).await {
                    Err(kubernetes::Error::Forbidden { .. }) => None,
                    found => found?,
                };
                let ours = object.filter(|object| is_of_cluster(object.metadata.labels.as_ref(), name.as_str()));
                ours.as_ref().map(read_inventory).transpose()
            }
            Place::Local(dir) => match dir.desired()? {
                Some(desired) => inventory_of(&desired, dir),
                None => Ok(None),
            },
        }
    }

    /// The clusters in the same namespace with this alias.
    pub async fn known_as(&self, alias: &ClusterName) -> Result<Vec<Summary>, Error> {
        let summaries: Vec<_> = match self {
            Place::Kubernetes(cluster, _) => {
                let selector = format!("{MANAGED_BY}={SPARKHA},{ALIAS}={alias}");
                let listed = match cluster.list_of::<ConfigMap>(&selector).await {
                    Err(kubernetes::Error::Forbidden { .. }) => vec![],
                    listed => listed?,
                };
                let inventories = listed.iter().filter_map(Inventory::read_among);
                inventories.map(|inventory| inventory.cluster).collect()
            }
            Place::Local(dir) => {
                let mut summaries = Vec::new();
                for sibling in Store::open()?.clusters(Some(&dir.namespace))? {
                    let desired = sibling.desired().ok().flatten();
                    let inventory = desired.and_then(|desired| inventory_of(&desired, &sibling).ok().flatten());
                    summaries.extend(inventory.map(|inventory| inventory.cluster));
                }
                summaries
            }
        };
        let is_known_so = |summary: &Summary| summary.alias.as_ref().is_some_and(|known| known.name == *alias);
        Ok(summaries.into_iter().filter(is_known_so).collect())
    }
}
