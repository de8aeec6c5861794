//! Where a cluster is: in a namespace of Kubernetes, or in a folder of this machine; and what is done with clusters in both alike.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use crate::lifecycle::create::{Options, Outcome};
use crate::lifecycle::differences::Differences;
use crate::lifecycle::external_zookeeper::Znodes;
use crate::lifecycle::local::{inventory_of, wanted_of};
use crate::lifecycle::preflight::{inventory_object, read_inventory};
use crate::lifecycle::spark_change::SparkChange;
use crate::lifecycle::{Error, create, local, teardown};
use crate::model::kind::Kind;
use crate::model::labels::{ALIAS, MANAGED_BY, SPARKHA, is_of_cluster};
use crate::platform::kubernetes::{self, Cluster};
use crate::platform::local::store::{ClusterDir, Store};
use crate::render::inventory::{Inventory, Summary};
use crate::report::progress::Progress;
use crate::spec::ClusterSpec;
use crate::spec::names::{ClusterName, Namespace};

/// Where a cluster is, and its name there.
#[derive(Clone)]
pub enum Place {
    Kubernetes(Cluster, ClusterName),
    Local(ClusterDir),
}

/// What a create will do.
pub enum Prepared {
    Kubernetes(Cluster, Box<create::Prepared>),
    Local(Box<local::create::Prepared>),
}

impl Prepared {
    pub fn differences(&self) -> &Differences {
        match self {
            Prepared::Kubernetes(_, prepared) => &prepared.differences,
            Prepared::Local(prepared) => &prepared.differences,
        }
    }

    /// Of the Spark that masters and workers run.
    pub fn change(&self) -> Option<&SparkChange> {
        match self {
            Prepared::Kubernetes(_, prepared) => prepared.change.as_ref(),
            Prepared::Local(prepared) => prepared.change.as_ref(),
        }
    }

    /// Does it.
    pub async fn create(self, spec: &ClusterSpec, options: &Options, progress: &Progress) -> Result<Outcome, Error> {
        match self {
            Prepared::Kubernetes(cluster, prepared) => {
                create::create(&cluster, spec, *prepared, options, progress).await
            }
            Prepared::Local(prepared) => {
                local::create::create(&Store::open()?, spec, *prepared, options, progress).await
            }
        }
    }
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

    /// Another cluster beside this one.
    pub fn sibling(&self, name: &ClusterName) -> Self {
        match self {
            Place::Kubernetes(cluster, _) => Place::Kubernetes(cluster.clone(), name.clone()),
            Place::Local(dir) => Place::Local(dir.sibling(name)),
        }
    }

    /// # Errors
    /// Also if there is no such cluster.
    pub async fn inventory(&self) -> Result<Inventory, Error> {
        match self {
            Place::Kubernetes(cluster, name) => read_inventory(&inventory_object(cluster, name).await?),
            Place::Local(dir) => Ok(wanted_of(dir)?.1),
        }
    }

    /// The inventory if there is one that may be read.
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
            Place::Local(dir) => match dir.wanted()? {
                Some(wanted) => inventory_of(&wanted, dir),
                None => Ok(None),
            },
        }
    }

    /// The clusters beside this one that are known by this name.
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
                    let wanted = sibling.wanted().ok().flatten();
                    let inventory = wanted.and_then(|wanted| inventory_of(&wanted, &sibling).ok().flatten());
                    summaries.extend(inventory.map(|inventory| inventory.cluster));
                }
                summaries
            }
        };
        let is_known_so = |summary: &Summary| summary.alias.as_ref().is_some_and(|known| known.name == *alias);
        Ok(summaries.into_iter().filter(is_known_so).collect())
    }

    /// See [`create::prepare`].
    pub async fn prepare(
        &self,
        spec: &ClusterSpec,
        spark_home: Option<&PathBuf>,
        options: &Options,
        progress: &Progress,
    ) -> Result<Prepared, Error> {
        Ok(match self {
            Place::Kubernetes(cluster, _) => {
                let prepared = create::prepare(cluster, spec, options, progress).await?;
                Prepared::Kubernetes(cluster.clone(), prepared.into())
            }
            Place::Local(dir) => Prepared::Local(
                local::create::prepare(dir, spec, spark_home, options, progress)
                    .await?
                    .into(),
            ),
        })
    }

    /// What the cluster has, once nobody else works on it; `None` if there is no such cluster.
    pub async fn belongings(&self) -> Result<Option<Belongings>, Error> {
        Ok(match self {
            Place::Kubernetes(cluster, name) => {
                let found = teardown::belongings(cluster, name).await?;
                found.map(|belongings| Belongings::Kubernetes(cluster.clone(), name.clone(), belongings.into()))
            }
            Place::Local(dir) => local::teardown::belongings(dir)?.map(Belongings::Local),
        })
    }

    /// Removes the cluster with all that it has.
    pub async fn teardown(&self, timeout: Duration, progress: &Progress) -> Result<(), Error> {
        let options = teardown::Options {
            timeout,
            keep_claims: false,
            znodes: Znodes::Remove,
            force: false,
        };
        match self.belongings().await? {
            Some(belongings) => belongings.remove(&options, progress).await,
            None => Ok(()),
        }
    }
}

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
