//! `sparkha jobs`: the leader's applications with the drivers that sparkha made for them, and how one is ended.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Serialize;

use super::Error;
use super::preflight::{inventory_object, read_inventory};
use super::submit::drivers;
use super::submit::leader::{Leader, Said};
use super::submit::local::{driver_ui, masters_of};
use crate::platform::kubernetes::Cluster;
use crate::platform::local::store::ClusterDir;
use crate::platform::local::{Loopback, submitted as process};
use crate::platform::observer::Reach;
use crate::render::labels::{Component, cluster_selector};
use crate::routing::pod_host;
use crate::spark::ApplicationReport;
use crate::spec::names::ClusterName;

/// How long a driver that was told to end may be listed.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(40);

/// An application, or a driver that has none yet or no more.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobState {
    pub id: Option<String>,
    pub name: String,
    pub user: String,
    /// Spark's word; of a driver alone `STARTING` or `ENDED`.
    pub state: String,
    pub cores: u32,
    pub executor_memory_mib: Option<u64>,
    pub submitted_ms: Option<u64>,
    pub duration_ms: Option<u64>,
    /// The pod or process that sparkha made for it.
    pub driver: Option<String>,
    pub web_ui: Option<String>,
}

/// A driver that sparkha made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverSeen {
    pub name: String,
    /// With what the address of its web UI begins: host, and on this machine the port.
    pub ui: Option<String>,
    pub ended: bool,
}

/// Where the cluster is.
pub enum Place {
    Kubernetes(Cluster, ClusterName),
    Local(ClusterDir),
}

/// All jobs that the leader knows, newest first, and drivers without one.
pub async fn jobs(place: &Place) -> Result<Vec<JobState>, Error> {
    let (said, drivers) = match place {
        Place::Kubernetes(cluster, name) => {
            let (masters, drivers) = seen(cluster, name).await?;
            (Leader::new(cluster.clone()).ask(masters).await, drivers)
        }
        Place::Local(dir) => {
            let masters = masters_of(dir)?;
            (Leader::new(Loopback).ask(masters).await, local_drivers(dir)?)
        }
    };
    match said {
        Some(said) => Ok(join(&said, &drivers)),
        None => Err(Error::Driver {
            message: "no master leads at present, and only a leader knows the jobs".into(),
            help: "`sparkha status` says what is missing".into(),
        }),
    }
}

/// Ends a job by ending its driver; the driver's name.
pub async fn end(place: &Place, wanted: &str) -> Result<String, Error> {
    let (name, drivers) = match place {
        Place::Kubernetes(cluster, name) => (name, seen(cluster, name).await?.1),
        Place::Local(dir) => (&dir.name, local_drivers(dir)?),
    };
    let known = |driver: &str| drivers.iter().any(|seen| seen.name == driver);
    let jobs = if known(wanted) {
        jobs(place).await.unwrap_or_default()
    } else {
        jobs(place).await?
    };
    let is_it = |job: &&JobState| job.id.as_deref() == Some(wanted) || job.driver.as_deref() == Some(wanted);
    let job = jobs.iter().find(is_it);
    let driver = job
        .and_then(|job| job.driver.clone())
        .or_else(|| known(wanted).then(|| wanted.to_owned()));
    let Some(driver) = driver else {
        return Err(match job {
            Some(job) => not_ours(job),
            None => Error::NoJob {
                wanted: wanted.to_owned(),
                name: name.to_string(),
            },
        });
    };
    let application = job.and_then(|job| job.id.as_deref());
    match place {
        Place::Kubernetes(cluster, name) => {
            drivers::end(cluster, &driver).await?;
            match application {
                Some(application) => {
                    let masters = seen(cluster, name).await?.0;
                    until_gone(Leader::new(cluster.clone()), application, masters).await;
                }
                None => drivers::until_ended(cluster, &driver).await?,
            }
        }
        Place::Local(dir) => {
            for record in process::records(dir)?.iter().filter(|record| record.name == driver) {
                process::end(record).await;
                process::remove(dir, &record.name)?;
            }
            if let Some(application) = application {
                until_gone(Leader::new(Loopback), application, masters_of(dir)?).await;
            }
        }
    }
    Ok(driver)
}

async fn until_gone<R: Reach + Clone>(mut leader: Leader<R>, application: &str, masters: Vec<Pod>) {
    if !leader
        .until_gone(application, || masters.clone(), UNREGISTER_TIMEOUT)
        .await
    {
        tracing::warn!("the master still lists {application}");
    }
}

fn not_ours(job: &JobState) -> Error {
    let id = job.id.clone().unwrap_or_default();
    match job.state.as_str() {
        "WAITING" | "RUNNING" => Error::Usage {
            message: format!(
                "the driver of {id} was not started by sparkha, and masters end no applications for strangers"
            ),
            help: match &job.web_ui {
                Some(ui) => format!("end the driver where it runs: its web UI is {ui}"),
                None => "end the driver where it runs".into(),
            },
        },
        _ => Error::Usage {
            message: format!("{id} has ended already"),
            help: "nothing is to be done".into(),
        },
    }
}

/// The cluster's masters, and the drivers that sparkha made.
async fn seen(cluster: &Cluster, name: &ClusterName) -> Result<(Vec<Pod>, Vec<DriverSeen>), Error> {
    let selector = cluster_selector(name);
    let pods = async { Ok(cluster.list_of::<Pod>(&selector).await?) };
    let (inventory, pods) = futures::try_join!(inventory_object(cluster, name), pods)?;
    let domain = read_inventory(&inventory)?.cluster.ui_domain;
    let of_part = |pod: &Pod, component: Component| Component::of(pod.labels()) == Some(component);
    let drivers = pods
        .iter()
        .filter(|pod| of_part(pod, Component::Driver) && drivers::is_ours(pod, name))
        .map(|pod| {
            let address = pod
                .status
                .as_ref()
                .and_then(|status| status.pod_ip.as_ref()?.parse().ok());
            DriverSeen {
                name: pod.name_any(),
                ui: address
                    .map(|address| format!("http://{}:", pod_host(address, cluster.namespace().as_str(), &domain))),
                ended: drivers::ended(pod).is_some(),
            }
        })
        .collect();
    let masters = pods.into_iter().filter(|pod| of_part(pod, Component::Master)).collect();
    Ok((masters, drivers))
}

fn local_drivers(dir: &ClusterDir) -> Result<Vec<DriverSeen>, Error> {
    let records = process::records(dir)?.into_iter();
    let seen = records.map(|record| DriverSeen {
        ui: driver_ui(dir, &record),
        ended: !record.process.is_alive(),
        name: record.name,
    });
    Ok(seen.collect())
}

/// Applications with their drivers, and drivers without applications.
fn join(said: &Said, drivers: &[DriverSeen]) -> Vec<JobState> {
    let job = |app: &ApplicationReport| {
        let uis = &said.page.driver_uis;
        let web_ui = uis.iter().find(|(id, _)| *id == app.id).map(|(_, ui)| ui.clone());
        let driver = web_ui.as_ref().and_then(|web_ui| {
            let is_its = |driver: &&DriverSeen| driver.ui.as_ref().is_some_and(|ui| web_ui.starts_with(ui.as_str()));
            drivers.iter().find(|driver| !driver.ended && is_its(driver))
        });
        JobState {
            id: Some(app.id.clone()),
            name: app.name.clone(),
            user: app.user.clone(),
            state: app.state.clone(),
            cores: app.cores,
            executor_memory_mib: Some(app.memory_per_executor),
            submitted_ms: Some(app.started_ms),
            duration_ms: Some(app.duration),
            driver: driver.map(|driver| driver.name.clone()),
            web_ui,
        }
    };
    let report = &said.report;
    let mut jobs: Vec<_> = report.activeapps.iter().chain(&report.completedapps).map(job).collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.submitted_ms));
    let alone = drivers
        .iter()
        .filter(|driver| jobs.iter().all(|job| job.driver.as_ref() != Some(&driver.name)));
    let alone: Vec<_> = alone
        .map(|driver| JobState {
            state: if driver.ended { "ENDED" } else { "STARTING" }.into(),
            driver: Some(driver.name.clone()),
            ..JobState::default()
        })
        .collect();
    jobs.splice(0..0, alone);
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spark::{MasterReport, MasterStatus, Page};

    #[test]
    fn applications_find_their_drivers_by_their_web_uis() {
        let app = |id: &str, state: &str, started_ms| ApplicationReport {
            id: id.into(),
            name: "n".into(),
            cores: 1,
            user: "u".into(),
            state: state.into(),
            memory_per_executor: 512,
            started_ms,
            duration: 1,
        };
        let said = Said {
            report: MasterReport {
                status: MasterStatus::Alive,
                url: String::new(),
                workers: vec![],
                activeapps: vec![app("app-1", "RUNNING", 1), app("app-2", "WAITING", 2)],
                completedapps: vec![app("app-0", "FINISHED", 0)],
            },
            page: Page {
                version: None,
                driver_uis: [
                    ("app-1", "http://spark-10-1-2-3.ns.k8s:4040"),
                    ("app-2", "http://elsewhere:4040"),
                ]
                .map(|(id, ui)| (id.to_owned(), ui.to_owned()))
                .into(),
            },
        };
        let driver = |name: &str, host: &str, ended| DriverSeen {
            name: name.into(),
            ui: Some(format!("http://{host}:")),
            ended,
        };
        let drivers = [
            // Its address is another's now.
            driver("old", "spark-10-1-2-3.ns.k8s", true),
            driver("mine", "spark-10-1-2-3.ns.k8s", false),
            driver("young", "spark-10-1-2-4.ns.k8s", false),
        ];
        let jobs = join(&said, &drivers);
        let short: Vec<_> = jobs
            .iter()
            .map(|job| (job.id.as_deref(), job.state.as_str(), job.driver.as_deref()))
            .collect();
        assert_eq!(
            short,
            [
                (None, "ENDED", Some("old")),
                (None, "STARTING", Some("young")),
                (Some("app-2"), "WAITING", None),
                (Some("app-1"), "RUNNING", Some("mine")),
                (Some("app-0"), "FINISHED", None),
            ]
        );
        assert!(
            not_ours(&jobs[2])
                .help()
                .unwrap_or_default()
                .contains("http://elsewhere:4040")
        );
    }
}
