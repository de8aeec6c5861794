//! A cluster on this machine.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateWaiting, Event, Pod, PodStatus};
use kube::ResourceExt;
use kube::core::{DynamicObject, ObjectMeta};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::cgroup::Groups;
use super::kubelet::terminate_process;
use super::pod::grace_of;
use super::process::{CLUSTER_DIR, CONTAINER_ID, kill_with_env, with_env};
use super::software::Software;
use super::stateful_set::REPLACE;
use super::store::{ClusterDir, ClusterLock, DesiredState, LockHolder, ObservedState, PodRecord, Store, keys_in, tail};
use super::volumes::{secret_folder, users};
use super::{Error as LocalError, container, drivers, submitted, supervisor};
use crate::model::error_chain::with_sources;
use crate::model::hosts::pod_host;
use crate::model::kind::Kind;
use crate::model::labels::Component;
use crate::platform::observer::{Observer, PodFilter};
use crate::platform::system::{Signal, host_name};
use crate::platform::transport::Transport;
use crate::platform::{
    Backend, Baseline, Bounds, Claim, DriverState, Error, Intent, LiveObjects, Lock, Observation, Platform, Read,
    UNDRAINED_SECONDS,
};
use crate::render::Resource;
use crate::render::auth::S3_CREDENTIALS_VARIABLE;
use crate::render::inventory::{Inventory, Summary};
use crate::spec::names::{ClusterName, Namespace};
use crate::spec::words::counted;
use crate::state::Facts;

/// A cluster on this machine.
#[derive(Clone)]
pub struct LocalPlatform {
    pub dir: ClusterDir,
    /// The Spark installation to use; `None` to look for one.
    pub spark_home: Option<PathBuf>,
    shared: Rc<Mutex<SharedState>>,
}

struct SharedState {
    observer: Observer,
    /// The software of the next write; `None` keeps it.
    software: Option<Software>,
    /// The last write of this process.
    written: Option<DesiredState>,
}

impl LocalPlatform {
    pub fn new(dir: ClusterDir, spark_home: Option<PathBuf>) -> Self {
        let shared = SharedState {
            observer: Observer::new(Transport::Direct),
            software: None,
            written: None,
        };
        Self {
            dir,
            spark_home,
            shared: Rc::new(Mutex::new(shared)),
        }
    }

    /// Sets the software that the pods run from the next write on.
    pub async fn use_software(&self, software: Software) {
        self.shared.lock().await.software = Some(software);
    }

    /// The desired state.
    ///
    /// # Errors
    /// Fails if there is no such cluster.
    pub fn desired(&self) -> Result<DesiredState, Error> {
        let desired = self.dir.desired()?;
        desired.ok_or_else(|| Error::no_cluster(&self.dir.name, &self.dir.namespace))
    }

    async fn write(&self, desired: DesiredState) -> Result<(), Error> {
        // A teardown changes nothing, and must not fail on a full disk.
        if !matches!(self.dir.desired(), Ok(Some(now)) if now == desired) {
            self.dir.write_desired(&desired)?;
        }
        self.shared.lock().await.written = Some(desired);
        Ok(())
    }

    /// Changes a StatefulSet of the desired state.
    async fn change_set(&self, name: &str, change: impl Fn(&mut Value)) -> Result<(), Error> {
        let mut sets = self.desired()?.resources;
        sets.retain(|resource| resource.kind == Kind::StatefulSet && resource.name == name);
        sets.iter_mut().for_each(|set| change(&mut set.object));
        self.apply(&sets, false).await
    }

    /// An object of the desired state as the API server would return it.
    fn live_object(&self, resource: &Resource) -> Option<DynamicObject> {
        let mut object: DynamicObject = serde_json::from_value(resource.object.clone()).ok()?;
        if resource.kind == Kind::Secret {
            object.data = json!({"data": keys_in(&self.dir.secret_folder(&resource.name)).ok()?});
        }
        Some(object)
    }

    /// The environment variables of a driver in the user's own shell, and a folder for its PATH.
    pub fn driver_environment(&self, inventory: &Inventory) -> Result<(Vec<(String, String)>, PathBuf), Error> {
        let software = self.desired()?.software;
        let mut variables = software.environment();
        variables.retain(|(name, _)| name != "PATH" && name != "LANG");
        // The driver's own address, because executors run on this machine, too. It is listed, so that its web UI can be
        // routed.
        let address = self.dir.observed()?.driver_address;
        let address = address.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let host = pod_host(address, self.dir.namespace.as_str(), &inventory.cluster.ui_domain);
        variables.extend([
            (
                "JDK_JAVA_OPTIONS".into(),
                container::java_options(&self.dir.hosts_file(), None),
            ),
            ("SPARK_CONF_DIR".into(), self.dir.drivers_conf().display().to_string()),
            ("SPARK_LOCAL_IP".into(), address.to_string()),
            ("SPARK_PUBLIC_DNS".into(), host),
            ("SPARK_MASTER_URL".into(), inventory.cluster.master_url.clone()),
        ]);
        let credentials = self.dir.s3_credentials();
        if credentials.exists() {
            variables.push((S3_CREDENTIALS_VARIABLE.into(), credentials.display().to_string()));
        }
        Ok((variables, software.spark_home.join("bin")))
    }

    /// All objects of the desired state.
    pub fn live(&self) -> Result<LiveObjects, Error> {
        let desired = self.dir.desired()?.unwrap_or_default().resources.into_iter();
        let objects = desired.filter_map(|resource| {
            let object = self.live_object(&resource)?;
            Some(((resource.kind, resource.name), object))
        });
        Ok(objects.collect())
    }
}

#[async_trait(?Send)]
impl Platform for LocalPlatform {
    fn name(&self) -> &ClusterName {
        &self.dir.name
    }

    fn namespace(&self) -> &Namespace {
        &self.dir.namespace
    }

    fn sibling(&self, name: &ClusterName) -> Rc<dyn Platform> {
        Rc::new(Self::new(self.dir.sibling(name), self.spark_home.clone()))
    }

    fn backend(&self) -> Backend<'_> {
        Backend::Local(self)
    }

    fn description(&self) -> String {
        format!(
            "local cluster {} in namespace {} at {} of {}",
            self.dir.name,
            self.dir.namespace,
            self.dir.path().display(),
            host_name()
        )
    }

    async fn inventory(&self) -> Result<Option<Inventory>, Error> {
        match self.dir.desired()? {
            Some(desired) => Ok(desired.inventory(&self.dir.name)?),
            None => Ok(None),
        }
    }

    async fn known_as(&self, alias: &ClusterName) -> Result<Vec<Summary>, Error> {
        let mut summaries = Vec::new();
        for dir in Store::open()?.clusters(Some(&self.dir.namespace))? {
            let inventory = Self::new(dir, None).inventory().await.ok().flatten();
            summaries.extend(inventory.map(|inventory| inventory.cluster));
        }
        summaries.retain(|summary| summary.is_known_as(alias));
        Ok(summaries)
    }

    async fn object(&self, kind: Kind, name: &str) -> Result<Option<DynamicObject>, Error> {
        let desired = self.dir.desired()?.unwrap_or_default().resources;
        let mut named = desired
            .iter()
            .filter(|resource| resource.kind == kind && resource.name == name);
        Ok(named.next().and_then(|resource| self.live_object(resource)))
    }

    async fn secret(&self, name: &str) -> Result<BTreeMap<String, ByteString>, Error> {
        let folder = match self.dir.desired() {
            Ok(Some(desired)) => secret_folder(&self.dir, &desired, name),
            _ => users("secrets", &self.dir, name),
        };
        Ok(keys_in(&folder.map_err(|reason| Error::NoSecret { reason })?)?)
    }

    async fn pods(&self) -> Result<Vec<Pod>, Error> {
        Ok(self.dir.observed()?.pods.into_iter().map(as_it_is).collect())
    }

    async fn facts(&self, _: Observation) -> Result<Facts, Error> {
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
        let observer = &mut self.shared.lock().await.observer;
        let facts = observer.query(pods, sets, PodFilter::Running).await;
        Ok(Facts {
            here: true,
            unattended,
            ..facts
        })
    }

    async fn events(&self) -> Vec<Event> {
        vec![]
    }

    async fn last_log(&self, pod: &Pod, lines: usize) -> String {
        let name = pod.name_any();
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref());
        let runs = statuses
            .and_then(|statuses| statuses.first()?.state.as_ref())
            .is_some_and(|state| state.running.is_some());
        // The previous log is rotated when the next run begins.
        let log = match runs {
            true => self.dir.previous_log(&name),
            false => self.dir.log(&name),
        };
        tail(&log, lines)
    }

    fn transport(&self) -> Transport {
        Transport::Direct
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(50)
    }

    async fn drivers(&self) -> Result<Vec<DriverState>, Error> {
        let address = self.dir.observed()?.driver_address;
        let drivers = submitted::records(&self.dir)?.into_iter().map(|record| {
            // Checked before the exit code is read, because the script writes that last.
            let ended = !record.process.is_alive();
            DriverState {
                ui_port: Some(record.ui_port),
                applications: record.applications(),
                ended,
                exit_code: record.exit_code().filter(|_| ended),
                pod: Pod {
                    metadata: ObjectMeta {
                        name: Some(record.name),
                        ..ObjectMeta::default()
                    },
                    status: Some(PodStatus {
                        pod_ip: address.map(|address| address.to_string()),
                        ..PodStatus::default()
                    }),
                    spec: None,
                },
            }
        });
        Ok(drivers.collect())
    }

    async fn end_driver(&self, driver: &str, _: bool) -> Result<(), Error> {
        let records = submitted::records(&self.dir)?.into_iter();
        for record in records.filter(|record| record.name == driver) {
            submitted::terminate(&record).await;
            submitted::remove(&self.dir, &record.name)?;
        }
        Ok(())
    }

    async fn kill_pod(&self, pod: &Pod, hard: bool) -> Result<(), Error> {
        let is_it = |record: &&PodRecord| record.pod.uid() == pod.uid();
        let observed = self.dir.observed()?;
        let Some(record) = observed.pods.iter().find(is_it) else {
            return Ok(());
        };
        if hard {
            kill_with_env(CONTAINER_ID, &record.container_id).await;
        } else if let Some(process) = &record.process {
            let name = pod.name_any();
            let signalled = process.signal(Signal::Terminate);
            signalled.map_err(|source| LocalError::Signal { pod: name, source })?;
        }
        Ok(())
    }

    async fn baseline(&self) -> Result<Baseline, Error> {
        if self.dir.exists() {
            drop(hold(&self.dir)?);
        }
        let read = |desired: Option<DesiredState>| {
            let inventory = desired.as_ref().map(|desired| desired.inventory(&self.dir.name));
            let inventory = inventory.transpose()?.flatten().map(Inventory::writable);
            Ok::<_, Error>((inventory.transpose()?, desired))
        };
        let (inventory, desired, damage) = match self.dir.desired().map_err(Error::from).and_then(read) {
            Ok((inventory, desired)) => (inventory, desired, None),
            // Not damaged, and not to be removed.
            Err(error) if error.newer_format().is_some() => return Err(error),
            Err(error) => (None, None, Some(error)),
        };
        Ok(Baseline {
            inventory,
            damage,
            is_first: false,
            read: Read::Local(desired),
        })
    }

    async fn lock(&self, baseline: &Baseline, intent: Intent<'_>) -> Result<Box<dyn Lock>, Error> {
        let file = hold(&self.dir)?;
        let now = match &baseline.damage {
            None => self.dir.desired()?,
            Some(_) => None,
        };
        if !matches!(&baseline.read, Read::Local(read) if *read == now) {
            if !self.dir.exists() {
                // A teardown has removed the cluster, and this lock made the folder anew.
                self.dir.remove(&[])?;
            }
            return Err(Error::has_just_finished());
        }
        if let Some(inventory) = intent.inventory {
            let mut desired = now.unwrap_or_default();
            if let Some(software) = self.shared.lock().await.software.take() {
                desired.software = software;
            }
            if let Some(config_map) = intent.config_map {
                desired.put(Resource {
                    kind: Kind::ConfigMap,
                    name: self.dir.name.inventory(),
                    object: config_map.clone(),
                });
            }
            desired.set_inventory(&self.dir.name, inventory);
            self.write(desired).await?;
        }
        Ok(Box::new(LocalLock {
            platform: self.clone(),
            _file: file,
            observed: OnceCell::new(),
        }))
    }

    /// Nobody else has changed the cluster if it is as this process has written it last.
    async fn undoable(&self, _: &str) -> Result<Option<Baseline>, Error> {
        let baseline = self.baseline().await?;
        let written = self.shared.lock().await.written.clone();
        let is_ours = matches!(&baseline.read, Read::Local(read) if *read == written && read.is_some());
        Ok(is_ours.then_some(baseline))
    }

    async fn confirm_first(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn apply(&self, resources: &[Resource], _: bool) -> Result<(), Error> {
        let mut desired = self.desired()?;
        resources.iter().for_each(|resource| desired.put(resource.clone()));
        self.write(desired).await?;
        if resources.iter().any(|resource| resource.kind == Kind::StatefulSet) {
            supervisor::ensure(&self.dir).await?;
        }
        Ok(())
    }

    async fn put_secret(
        &self,
        name: &str,
        values: BTreeMap<String, String>,
        new: Option<&Resource>,
    ) -> Result<(), Error> {
        for (key, value) in values {
            self.dir.write_secret(name, &key, value.as_bytes())?;
        }
        match new {
            Some(new) => self.apply(std::slice::from_ref(new), false).await,
            None => Ok(()),
        }
    }

    async fn scale(&self, set: &DynamicObject, replicas: u32, _: bool) -> Result<(), Error> {
        self.change_set(&set.name_any(), |set| set["spec"]["replicas"] = json!(replicas))
            .await
    }

    async fn set_strategy(&self, _: &str, _: &str) -> Result<(), Error> {
        // The next write of the StatefulSet sets it.
        Ok(())
    }

    async fn replace_pods(&self, set: &str, pods: &[Pod]) -> Result<(), Error> {
        let uids: Vec<_> = pods.iter().filter_map(ResourceExt::uid).collect();
        let mark = |set: &mut Value| set["metadata"]["annotations"][REPLACE] = json!(uids.join(","));
        self.change_set(set, mark).await
    }

    async fn delete(&self, kind: Kind, name: &str, _: Option<String>) -> Result<(), Error> {
        let mut desired = self.desired()?;
        desired
            .resources
            .retain(|resource| (resource.kind, resource.name.as_str()) != (kind, name));
        self.write(desired).await?;
        supervisor::ensure(&self.dir).await?;
        Ok(())
    }

    async fn restart(&self, components: &[Component], _: &Bounds<'_>) -> Result<(), Error> {
        let is_of = |record: &PodRecord| Component::of(record.pod.labels()).is_some_and(|of| components.contains(&of));
        let records = self.dir.observed()?.pods.into_iter().filter(is_of);
        let processes: Vec<_> = records.filter_map(|record| record.process).collect();
        let grace = Duration::from_secs(UNDRAINED_SECONDS.into());
        join_all(processes.iter().map(|process| terminate_process(process, grace))).await;
        Ok(())
    }

    async fn ensure_running(&self) -> Result<bool, Error> {
        drivers::configure(&Store::open()?, &self.dir, &self.desired()?)?;
        Ok(supervisor::ensure(&self.dir).await?)
    }

    async fn claims(&self, _: Option<&Inventory>) -> Result<Vec<Claim>, Error> {
        let claims = self.dir.claims()?.into_iter();
        Ok(claims.map(|name| Claim { name, uid: None }).collect())
    }
}

/// Takes the lock of the cluster's folder.
fn hold(dir: &ClusterDir) -> Result<ClusterLock, Error> {
    dir.lock()?.map_err(|LockHolder(holder)| Error::Busy { holder })
}

struct LocalLock {
    platform: LocalPlatform,
    _file: ClusterLock,
    /// The pods to stop.
    observed: OnceCell<ObservedState>,
}

#[async_trait(?Send)]
impl Lock for LocalLock {
    fn id(&self) -> &str {
        ""
    }

    fn platform(&self) -> &dyn Platform {
        &self.platform
    }

    async fn check(&self, _: &str) -> Result<SystemTime, Error> {
        // The kernel keeps it until this process ends.
        Ok(SystemTime::now())
    }

    async fn release(&mut self, inventory: &Inventory, _: bool) -> Result<(), Error> {
        let mut desired = self.platform.desired()?;
        desired.set_inventory(&self.platform.dir.name, inventory);
        self.platform.write(desired).await
    }

    async fn stop(&self, component: Component, bounds: &Bounds<'_>) -> Result<(), Error> {
        let dir = &self.platform.dir;
        // It would restart the pods.
        supervisor::terminate(dir).await;
        if component == Component::Driver {
            let drivers = submitted::records(dir).unwrap_or_default();
            join_all(drivers.iter().map(submitted::terminate)).await;
            return Ok(());
        }
        // Damaged files must not prevent a teardown: unrecorded processes are found by their environment.
        let observed = self.observed.get_or_init(|| {
            dir.observed().unwrap_or_else(|error| {
                bounds.progress.warn(&with_sources(&error));
                ObservedState::default()
            })
        });
        let is_of = |record: &&PodRecord| Component::of(record.pod.labels()) == Some(component);
        let records: Vec<_> = observed.pods.iter().filter(is_of).collect();
        if !records.is_empty() {
            let left = counted(records.len(), &format!("{} pod", component.as_str()));
            bounds.progress.part("Teardown", &format!("{left} left"));
        }
        join_all(records.into_iter().map(terminate)).await;
        Ok(())
    }

    async fn remove(self: Box<Self>, claims: &[Claim], _: &Bounds<'_>) -> Result<(), Error> {
        let dir = &self.platform.dir;
        kill_with_env(CLUSTER_DIR, &dir.path().display().to_string()).await;
        Groups::remove(&dir.container_id_prefix());
        let claims: Vec<_> = claims.iter().map(|claim| claim.name.clone()).collect();
        Ok(dir.remove(&claims)?)
    }
}

async fn terminate(record: &PodRecord) {
    let Some(process) = &record.process else { return };
    // Signals all processes of the pod, not only the first: if all workers stop, executors have no peer to migrate data
    // to.
    for each in with_env(CONTAINER_ID, &record.container_id) {
        if let Err(error) = each.signal(Signal::Terminate) {
            tracing::warn!("failed to signal process {}: {error}", each.pid);
        }
    }
    terminate_process(process, grace_of(&record.pod)).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::system::file_id;

    #[tokio::test]
    async fn a_lock_without_changes_does_not_write_the_desired_state() {
        let folder = tempfile::tempdir().unwrap();
        let dir = ClusterDir::at(&folder.path().join("default/spark")).unwrap();
        let spec = crate::spec::resolve::resolve(None, &Default::default()).unwrap();
        std::fs::create_dir_all(dir.path()).unwrap();
        dir.write_desired(&DesiredState {
            resources: crate::render::render(&spec).all(&spec),
            ..DesiredState::default()
        })
        .unwrap();
        // A write replaces the file.
        let file = || file_id(&std::fs::metadata(dir.path().join("wanted.json")).unwrap());
        let before = file();
        let platform = LocalPlatform::new(dir.clone(), None);
        let baseline = platform.baseline().await.unwrap();
        let inventory = baseline.inventory.clone().unwrap();
        drop(platform.lock(&baseline, Intent::change(&inventory)).await.unwrap());
        assert_eq!(file(), before);
        assert!(platform.undoable("").await.unwrap().is_some());
    }
}
