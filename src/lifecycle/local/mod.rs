//! Create, scale, teardown, status and list on the local platform. Resources, inventory, plan, readiness and reports
//! are the same as on Kubernetes; only storage and execution differ.

pub mod create;
pub mod scale;
pub mod teardown;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateWaiting, Event, Pod};
use kube::ResourceExt;

use crate::lifecycle::Error;
use crate::lifecycle::wait::{LOG_LINES, View};
use crate::model::error_chain::with_sources;
use crate::model::hosts::pod_host;
use crate::model::labels::Component;
use crate::platform::local::store::{ClusterDir, DesiredState, PodRecord, Store, tail};
use crate::platform::local::{Loopback, container};
use crate::platform::observer::{Observer, PodFilter};
use crate::render::inventory::Inventory;
use crate::spec::names::Namespace;
use crate::state::overview::{Overview, of_state};
use crate::state::{ClusterState, Facts, cluster_state};

/// Observes a local cluster.
pub struct LocalView {
    dir: ClusterDir,
    observer: Observer<Loopback>,
}

impl LocalView {
    pub fn of(dir: &ClusterDir) -> Self {
        Self {
            dir: dir.clone(),
            observer: Observer::new(Loopback),
        }
    }

    /// The current state of the cluster.
    pub async fn state(&mut self) -> Result<ClusterState, Error> {
        let Some((inventory, facts)) = self.observe().await? else {
            return Err(Error::no_cluster(&self.dir.name, &self.dir.namespace));
        };
        Ok(cluster_state(self.dir.namespace.as_str(), &inventory, &facts))
    }

    /// The inventory and the facts; `None` if there is no such cluster.
    pub async fn observe(&mut self) -> Result<Option<(Inventory, Facts)>, Error> {
        let Some(desired) = self.dir.desired()? else {
            return Ok(None);
        };
        let Some(inventory) = inventory_of(&desired, &self.dir)? else {
            return Ok(None);
        };
        let facts = self.facts().await?;
        Ok(Some((inventory, facts)))
    }
}

impl View for LocalView {
    const EVERY: Duration = Duration::from_millis(50);

    async fn facts(&mut self) -> Result<Facts, Error> {
        let unattended = self.dir.supervisor().is_none();
        let observed = self.dir.observed()?;
        let mut sets = self.dir.desired()?.map(|desired| desired.sets()).unwrap_or_default();
        for set in &mut sets {
            set.metadata.generation = Some(1);
            // The supervisor's status of a set is valid only for the same spec.
            let known = observed
                .sets
                .iter()
                .find(|observed| observed.name_any() == set.name_any() && observed.spec == set.spec);
            set.status = known.and_then(|observed| observed.status.clone());
        }
        let pods = observed.pods.into_iter().map(as_it_is).collect();
        let facts = self.observer.query(pods, sets, PodFilter::Running).await;
        Ok(Facts {
            here: true,
            unattended,
            ..facts
        })
    }

    fn events(&self) -> Vec<Event> {
        vec![]
    }

    async fn last_words(&self, pod: &Pod) -> String {
        let name = pod.name_any();
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref());
        let runs = statuses
            .and_then(|statuses| statuses.first()?.state.as_ref())
            .is_some_and(|state| state.running.is_some());
        // The previous log is rotated when the next run begins.
        let log = if runs {
            self.dir.previous_log(&name)
        } else {
            self.dir.log(&name)
        };
        tail(&log, LOG_LINES as usize)
    }
}

/// The pod, corrected if its process has ended since the supervisor recorded it.
fn as_it_is(record: PodRecord) -> Pod {
    let alive = record.process.is_some_and(|process| process.is_alive());
    let mut pod = record.pod;
    let statuses = pod
        .status
        .iter_mut()
        .flat_map(|status| status.container_statuses.iter_mut().flatten());
    for status in statuses {
        if !alive && status.state.as_ref().is_some_and(|state| state.running.is_some()) {
            status.ready = false;
            status.state = Some(ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some("Ended".into()),
                    message: None,
                }),
                ..Default::default()
            });
        }
    }
    pod
}

/// The desired resources and the inventory of a cluster. Fails if there is no such cluster.
pub fn desired_of(dir: &ClusterDir) -> Result<(DesiredState, Inventory), Error> {
    let desired = dir.desired()?;
    let inventory = desired.as_ref().map(|desired| inventory_of(desired, dir)).transpose()?;
    desired
        .zip(inventory.flatten())
        .ok_or_else(|| Error::no_cluster(&dir.name, &dir.namespace))
}

/// The inventory among the desired resources.
pub fn inventory_of(desired: &DesiredState, dir: &ClusterDir) -> Result<Option<Inventory>, Error> {
    match desired.config_map(&dir.name.inventory()) {
        Some(config_map) => Ok(Some(Inventory::read(&config_map)?)),
        None => Ok(None),
    }
}

/// The pods of the masters.
pub fn masters_of(dir: &ClusterDir) -> Result<Vec<Pod>, Error> {
    let mut pods: Vec<_> = dir.observed()?.pods.into_iter().map(|record| record.pod).collect();
    pods.retain(|pod| Component::of(pod.labels()) == Some(Component::Master));
    Ok(pods)
}

/// The recorded pods on this machine.
pub fn pods_of(dir: &ClusterDir) -> Result<Facts, Error> {
    Ok(Facts {
        pods: dir.observed()?.pods.into_iter().map(|record| record.pod).collect(),
        here: true,
        ..Facts::default()
    })
}

/// The environment variables of a driver on this machine, and a folder for its PATH.
pub fn driver_environment(dir: &ClusterDir) -> Result<(Vec<(String, String)>, PathBuf), Error> {
    let (desired, inventory) = desired_of(dir)?;
    let mut variables = desired.software.environment();
    variables.retain(|(name, _)| name != "PATH" && name != "LANG");
    // The driver's own address, because executors run on this machine, too. It is listed, so that its web UI can be
    // routed.
    let observed = dir.observed()?;
    let address = observed.driver_address.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let host = pod_host(address, dir.namespace.as_str(), &inventory.cluster.ui_domain);
    variables.extend([
        (
            "JDK_JAVA_OPTIONS".into(),
            container::java_options(&dir.hosts_file(), None),
        ),
        ("SPARK_CONF_DIR".into(), dir.drivers_conf().display().to_string()),
        ("SPARK_LOCAL_IP".into(), address.to_string()),
        ("SPARK_PUBLIC_DNS".into(), host),
        ("SPARK_MASTER_URL".into(), inventory.cluster.master_url),
    ]);
    Ok((variables, desired.software.spark_home.join("bin")))
}

/// Summaries of all clusters in a namespace or in all.
pub async fn list(store: &Store, namespace: Option<&Namespace>) -> Result<Vec<Overview>, Error> {
    let dirs = store.clusters(namespace)?;
    let overviews_or_errors = join_all(dirs.iter().map(overview_of)).await;
    let mut overviews = Vec::new();
    for (dir, found) in dirs.iter().zip(overviews_or_errors) {
        match found {
            Ok(overview) => overviews.extend(overview),
            Err(error) => tracing::warn!("{}/{}: {}", dir.namespace, dir.name, with_sources(&error)),
        }
    }
    Ok(overviews)
}

/// `None` if it was removed meanwhile.
async fn overview_of(dir: &ClusterDir) -> Result<Option<Overview>, Error> {
    let found = LocalView::of(dir).observe().await?;
    Ok(found.map(|(inventory, facts)| of_state(&cluster_state(dir.namespace.as_str(), &inventory, &facts))))
}
