//! A prepared create, on Kubernetes or on this machine.

use std::path::PathBuf;

use crate::console::progress::Progress;
use crate::lifecycle::create::{CreateOptions, CreateResult};
use crate::lifecycle::differences::Differences;
use crate::lifecycle::place::Place;
use crate::lifecycle::spark_change::SparkChange;
use crate::lifecycle::{Error, create, local};
use crate::platform::kubernetes::Cluster;
use crate::platform::local::store::Store;
use crate::spec::ClusterSpec;

/// A prepared create.
pub enum Prepared {
    Kubernetes(Cluster, Box<create::KubernetesCreate>),
    Local(Box<local::create::LocalCreate>),
}

impl Prepared {
    pub fn differences(&self) -> &Differences {
        match self {
            Prepared::Kubernetes(_, prepared) => &prepared.differences,
            Prepared::Local(prepared) => &prepared.differences,
        }
    }

    /// Change of the Spark version of masters and workers.
    pub fn change(&self) -> Option<&SparkChange> {
        match self {
            Prepared::Kubernetes(_, prepared) => prepared.change.as_ref(),
            Prepared::Local(prepared) => prepared.change.as_ref(),
        }
    }

    /// Executes it.
    pub async fn create(
        self,
        spec: &ClusterSpec,
        options: &CreateOptions,
        progress: &Progress,
    ) -> Result<CreateResult, Error> {
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

/// See [`create::prepare`].
pub async fn prepare(
    place: &Place,
    spec: &ClusterSpec,
    spark_home: Option<&PathBuf>,
    options: &CreateOptions,
    progress: &Progress,
) -> Result<Prepared, Error> {
    Ok(match place {
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
