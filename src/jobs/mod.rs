//! `sparkha jobs`: lists the leader's applications with the drivers that sparkha created for them, and kills jobs.

pub mod orphans;
pub mod submit;

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Serialize;

use crate::jobs::orphans::{DriverUi, Orphan, orphans};
use crate::lifecycle::Error;
use crate::lifecycle::inventory::{takes_writes, to_read, warn_if_newer};
use crate::model::hosts::{history_host, pod_host};
use crate::model::labels::Component;
use crate::model::ports::{DRIVER_UI_PORTS, HISTORY_UI_PORT};
use crate::model::reports::ApplicationReport;
use crate::platform::leader::{Leader, LeaderReport};
use crate::platform::local::store::ClusterDir;
use crate::platform::transport::Transport;
use crate::platform::{self, Backend, DriverState, Platform};
use crate::render::inventory::Inventory;
use crate::spec::names::UiDomain;
use crate::state::{address_of, ui_prefix};

/// How long the leader may list the application of a killed driver.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(40);

const ORPHANED: &str = "ORPHANED";

/// An application, or a driver without one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobState {
    pub id: Option<String>,
    pub name: String,
    pub user: String,
    /// Spark's state, but `FAILED` if that is FINISHED and the driver failed. For a driver alone `STARTING`, `ENDED` or
    /// `FAILED`. `ORPHANED` if the driver still has the application and the leader does not.
    pub state: String,
    /// Spark's own state: FINISHED also for an application whose driver fails afterwards.
    pub spark_state: Option<String>,
    /// The driver's exit code, once it has ended.
    pub exit_code: Option<i32>,
    pub cores: u32,
    pub executor_memory_mib: Option<u64>,
    pub submitted_ms: Option<u64>,
    pub duration_ms: Option<u64>,
    /// The pod or process that sparkha created for it.
    pub driver: Option<String>,
    /// The driver has ended. Without an exit code its result is unknown.
    #[serde(skip)]
    pub driver_ended: bool,
    /// The driver's web UI, while it runs.
    pub web_ui: Option<String>,
    /// The history server's page of an ended application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_ui: Option<String>,
    /// The address of one of these UIs on this machine, for jobs of a local cluster.
    #[serde(skip)]
    pub local_ui: Option<String>,
}

impl JobState {
    /// Whether removing the cluster kills the application, or a driver that continues after its application.
    fn would_be_lost(&self) -> bool {
        self.is_running() || (self.driver.is_some() && !self.driver_ended)
    }

    /// Whether the job has not ended.
    fn is_running(&self) -> bool {
        matches!(self.state.as_str(), "WAITING" | "RUNNING" | "STARTING" | ORPHANED)
    }

    /// The running driver and its application, if the leader does not know the application.
    pub fn orphan(&self) -> Option<Orphan> {
        Some(Orphan {
            driver: self.driver.clone().filter(|_| self.state == ORPHANED)?,
            application: self.id.clone()?,
        })
    }
}

/// A driver that sparkha created.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedDriver {
    pub name: String,
    /// Prefix of its web UI's address: the host, and on this machine the port.
    pub ui_prefix: Option<String>,
    /// The web UI to query.
    pub ui: DriverUi,
    /// The IDs of its applications, the latest last. For a pod they are known once it has ended.
    pub applications: Vec<String>,
    pub ended: bool,
    pub exit_code: Option<i32>,
}

impl ObservedDriver {
    fn of(driver: DriverState, namespace: &str, domain: &UiDomain) -> Self {
        let name = driver.pod.name_any();
        let port = |prefix| match driver.ui_port {
            Some(port) => format!("{prefix}{port}"),
            None => prefix,
        };
        Self {
            ui_prefix: ui_prefix(&driver.pod, namespace, domain).map(port),
            ui: DriverUi {
                driver: name.clone(),
                port: driver.ui_port.unwrap_or(*DRIVER_UI_PORTS.start()),
                pod: driver.pod,
            },
            name,
            applications: driver.applications,
            ended: driver.ended,
            exit_code: driver.exit_code,
        }
    }
}

/// The known jobs that run or wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunningJobs {
    pub jobs: Vec<JobState>,
    /// No master leads, so applications of drivers that sparkha did not start are unknown.
    pub no_leader: bool,
}

/// The observed jobs of a cluster.
struct JobsSnapshot {
    /// `None` if no master leads.
    reply: Option<LeaderReport>,
    drivers: Vec<ObservedDriver>,
    orphans: Vec<Orphan>,
    /// Prefix of the address of the Spark Connect server's web UI.
    connect: Option<String>,
    inventory: Inventory,
}

async fn snapshot(platform: &dyn Platform) -> Result<JobsSnapshot, Error> {
    let inventory = to_read(platform).await?;
    warn_if_newer(&inventory);
    let namespace = platform.namespace().as_str();
    let domain = &inventory.cluster.ui_domain;
    let (pods, drivers) = futures::try_join!(platform.pods(), drivers(platform, domain))?;
    let connect = pods.iter().find(|pod| is_of(pod, Component::Connect));
    let connect = connect.and_then(|pod| ui_prefix(pod, namespace, domain));
    let (reply, orphans) = query_leader(platform.transport(), pods, &drivers).await;
    Ok(JobsSnapshot {
        reply,
        drivers,
        orphans,
        connect,
        inventory,
    })
}

async fn drivers(platform: &dyn Platform, domain: &UiDomain) -> Result<Vec<ObservedDriver>, platform::Error> {
    let drivers = platform.drivers().await?.into_iter();
    let observed = |driver| ObservedDriver::of(driver, platform.namespace().as_str(), domain);
    Ok(drivers.map(observed).collect())
}

/// Queries the leader, and finds the drivers whose applications it does not know.
async fn query_leader(
    transport: Transport,
    pods: Vec<Pod>,
    drivers: &[ObservedDriver],
) -> (Option<LeaderReport>, Vec<Orphan>) {
    let mut leader = Leader::new(transport);
    let Some(reply) = leader.query(pods.clone()).await else {
        return (None, vec![]);
    };
    let orphans = orphans(&mut leader, pods, without_application(&reply, drivers)).await;
    (Some(reply), orphans)
}

/// The web UIs of running drivers that have no known active application.
fn without_application(reply: &LeaderReport, drivers: &[ObservedDriver]) -> Vec<DriverUi> {
    let jobs = join(reply, drivers);
    let has_active = |driver: &&ObservedDriver| {
        let is_active = |id: &Option<String>| reply.report.activeapps.iter().any(|app| Some(&app.id) == id.as_ref());
        jobs.iter()
            .any(|job| job.driver.as_ref() == Some(&driver.name) && is_active(&job.id))
    };
    let idle = drivers.iter().filter(|driver| !driver.ended && !has_active(driver));
    idle.map(|driver| driver.ui.clone()).collect()
}

/// The drivers whose applications the leader does not know.
pub async fn orphans_of(platform: &dyn Platform, pods: Vec<Pod>, domain: &UiDomain) -> Result<Vec<Orphan>, Error> {
    let drivers = drivers(platform, domain).await?;
    Ok(match drivers.iter().all(|driver| driver.ended) {
        true => vec![],
        false => query_leader(platform.transport(), pods, &drivers).await.1,
    })
}

/// All jobs that the leader knows, newest first, and drivers without an application.
pub async fn jobs(platform: &dyn Platform) -> Result<Vec<JobState>, Error> {
    let snapshot = snapshot(platform).await?;
    let reply = snapshot.reply.as_ref().ok_or_else(|| Error::Driver {
        message: "no master leads at the moment, and only the leader knows the jobs".into(),
        help: "`sparkha status` shows what is missing".into(),
    })?;
    let mut jobs = marked(join(reply, &snapshot.drivers), &snapshot.orphans);
    link_history(&mut jobs, platform.namespace().as_str(), &snapshot.inventory);
    if let Backend::Local(local) = platform.backend() {
        link_locally(&mut jobs, &local.dir, &snapshot.inventory)?;
    }
    Ok(jobs)
}

/// Links ended applications to the history server, if the cluster has one.
fn link_history(jobs: &mut [JobState], namespace: &str, inventory: &Inventory) {
    let cluster = &inventory.cluster;
    if !cluster.history {
        return;
    }
    let host = history_host(cluster.known_name(), namespace, &cluster.ui_domain);
    for job in jobs.iter_mut().filter(|job| !job.is_running()) {
        let link = |id: &String| format!("http://{host}:{HISTORY_UI_PORT}/history/{id}/");
        job.history_ui = job.id.as_ref().map(link);
    }
}

/// Links jobs to the addresses of a local cluster's pods, because this machine cannot resolve routed names.
fn link_locally(jobs: &mut [JobState], dir: &ClusterDir, inventory: &Inventory) -> Result<(), Error> {
    let (observed, namespace, cluster) = (dir.observed()?, dir.namespace.as_str(), &inventory.cluster);
    let mut hosts = Vec::new();
    if let Some(address) = observed.driver_address {
        hosts.push((pod_host(address, namespace, &cluster.ui_domain), address));
    }
    for pod in observed.pods.iter().map(|record| &record.pod) {
        let Some(address) = address_of(pod) else { continue };
        hosts.push((pod_host(address, namespace, &cluster.ui_domain), address));
        if is_of(pod, Component::History) {
            let host = history_host(cluster.known_name(), namespace, &cluster.ui_domain);
            hosts.push((host, address));
        }
    }
    for job in jobs {
        let routed = job.web_ui.as_ref().or(job.history_ui.as_ref());
        job.local_ui = routed.and_then(|routed| {
            let is_at = |(host, _): &&(String, IpAddr)| routed.contains(&format!("//{host}:"));
            let (host, address) = hosts.iter().find(is_at)?;
            Some(routed.replacen(host, &address.to_string(), 1))
        });
    }
    Ok(())
}

/// The jobs that would be lost with the cluster. The Spark Connect server is part of the cluster and does not count.
pub async fn running(platform: &dyn Platform) -> Result<RunningJobs, Error> {
    let snapshot = snapshot(platform).await?;
    let mut jobs = match &snapshot.reply {
        Some(reply) => marked(join(reply, &snapshot.drivers), &snapshot.orphans),
        None => snapshot.drivers.iter().map(driver_only).collect(),
    };
    let is_connect = |job: &JobState| {
        let prefix = snapshot.connect.as_deref();
        prefix.is_some_and(|prefix| job.web_ui.as_ref().is_some_and(|ui| ui.starts_with(prefix)))
    };
    jobs.retain(|job| job.would_be_lost() && !is_connect(job));
    Ok(RunningJobs {
        jobs,
        no_leader: snapshot.reply.is_none(),
    })
}

/// Kills a job by killing its driver. Returns the driver's name.
pub async fn end(platform: &dyn Platform, requested: &str) -> Result<String, Error> {
    takes_writes(platform).await?;
    let drivers = platform.drivers().await?;
    let known = |driver: &str| drivers.iter().any(|observed| observed.pod.name_any() == driver);
    let jobs = match jobs(platform).await {
        // The driver can be ended without them.
        Err(_) if known(requested) => vec![],
        jobs => jobs?,
    };
    let is_it = |job: &&JobState| job.id.as_deref() == Some(requested) || job.driver.as_deref() == Some(requested);
    let job = jobs.iter().find(is_it);
    let driver = job.and_then(|job| driver_to_end(job, requested));
    let driver = driver.or_else(|| known(requested).then(|| requested.to_owned()));
    let Some(driver) = driver else {
        return Err(match job {
            Some(job) => not_ours(job),
            None => Error::NoJob {
                requested: requested.to_owned(),
                name: platform.name().to_string(),
            },
        });
    };
    let application = job.and_then(|job| job.id.as_deref());
    platform.end_driver(&driver, application.is_none()).await?;
    if let Some(application) = application {
        let pods = platform.pods().await?;
        let mut leader = Leader::new(platform.transport());
        let pods = || pods.clone();
        if !leader.until_gone(application, pods, UNREGISTER_TIMEOUT).await {
            tracing::warn!("the master still lists {application}");
        }
    }
    Ok(driver)
}

/// The job's driver, unless it continues after the requested application has ended: then it has other work.
fn driver_to_end(job: &JobState, requested: &str) -> Option<String> {
    let driver = job.driver.as_ref()?;
    let goes_on = !job.is_running() && !job.driver_ended;
    (driver == requested || !goes_on).then(|| driver.clone())
}

fn not_ours(job: &JobState) -> Error {
    let id = job.id.clone().unwrap_or_default();
    match job.state.as_str() {
        "WAITING" | "RUNNING" => Error::Usage {
            message: format!(
                "sparkha did not start the driver of {id}, and masters do not kill applications for other clients"
            ),
            help: match &job.web_ui {
                Some(ui) => format!("stop the driver where it runs: its web UI is {ui}"),
                None => "stop the driver where it runs".into(),
            },
        },
        _ => Error::Usage {
            message: format!("{id} has already ended"),
            help: "nothing to do".into(),
        },
    }
}

fn is_of(pod: &Pod, component: Component) -> bool {
    Component::of(pod.labels()) == Some(component)
}

/// Applications with their drivers, and drivers without applications.
fn join(reply: &LeaderReport, drivers: &[ObservedDriver]) -> Vec<JobState> {
    let job = |app: &ApplicationReport| {
        let uis = &reply.page.driver_uis;
        let web_ui = uis.iter().find(|(id, _)| *id == app.id).map(|(_, ui)| ui.clone());
        let has_recorded = |driver: &&ObservedDriver| driver.applications.contains(&app.id);
        // Another driver may have its address once it has ended.
        let has_ui = |driver: &&ObservedDriver| {
            let its = driver.ui_prefix.as_ref().zip(web_ui.as_ref());
            !driver.ended && driver.applications.is_empty() && its.is_some_and(|(its, ui)| ui.starts_with(its.as_str()))
        };
        let driver = drivers.iter().find(has_recorded);
        let driver = driver.or_else(|| drivers.iter().find(has_ui));
        let is_last = driver.is_some_and(|driver| driver.applications.last() == Some(&app.id));
        let failed = is_last && driver.and_then(|driver| driver.exit_code).is_some_and(|code| code != 0);
        JobState {
            id: Some(app.id.clone()),
            name: app.name.clone(),
            user: app.user.clone(),
            state: match app.state.as_str() {
                "FINISHED" | "WAITING" | "RUNNING" if failed => "FAILED".into(),
                state => state.into(),
            },
            spark_state: Some(app.state.clone()),
            exit_code: driver.and_then(|driver| driver.exit_code),
            cores: app.cores,
            executor_memory_mib: Some(app.memory_per_executor),
            submitted_ms: Some(app.started_ms),
            duration_ms: Some(app.duration),
            driver: driver.map(|driver| driver.name.clone()),
            driver_ended: driver.is_some_and(|driver| driver.ended),
            web_ui,
            ..JobState::default()
        }
    };
    let report = &reply.report;
    let mut jobs: Vec<_> = report.activeapps.iter().chain(&report.completedapps).map(job).collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.submitted_ms));
    let is_listed = |driver: &&ObservedDriver| jobs.iter().any(|job| job.driver.as_ref() == Some(&driver.name));
    let others: Vec<_> = drivers
        .iter()
        .filter(|driver| !is_listed(driver))
        .map(driver_only)
        .collect();
    jobs.splice(0..0, others);
    jobs
}

/// Marks the jobs of orphans.
fn marked(mut jobs: Vec<JobState>, orphans: &[Orphan]) -> Vec<JobState> {
    for Orphan { driver, application } in orphans {
        let is_its = |job: &JobState| job.driver.as_ref() == Some(driver) && job.state == "STARTING";
        let is_it = |job: &JobState| job.id.as_ref() == Some(application);
        let row = jobs.iter().position(is_it).or_else(|| jobs.iter().position(is_its));
        let Some(job) = row.and_then(|row| jobs.get_mut(row)) else {
            continue;
        };
        job.id = Some(application.clone());
        job.driver = Some(driver.clone());
        job.state = ORPHANED.into();
        // A driver in a running pod has recorded no application yet, and had its own row.
        jobs.retain(|job| !is_its(job));
    }
    jobs
}

/// A driver whose application the leader does not know: it has not registered yet, or it ended under a previous leader.
fn driver_only(driver: &ObservedDriver) -> JobState {
    let state = match (driver.ended, driver.exit_code) {
        (false, _) => "STARTING",
        (true, Some(1..)) => "FAILED",
        (true, _) => "ENDED",
    };
    JobState {
        id: driver.applications.last().cloned(),
        state: state.into(),
        exit_code: driver.exit_code,
        driver: Some(driver.name.clone()),
        driver_ended: driver.ended,
        ..JobState::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::spark::MasterPage;
    use crate::model::reports::{MasterReport, MasterStatus};
    use crate::platform::kubernetes::drivers;
    use crate::spec::names::ClusterName;

    fn ui(driver: &str) -> DriverUi {
        DriverUi {
            driver: driver.into(),
            pod: Pod::default(),
            port: 4040,
        }
    }

    fn app(id: &str, state: &str, started_ms: u64) -> ApplicationReport {
        ApplicationReport {
            id: id.into(),
            name: "n".into(),
            cores: 1,
            user: "u".into(),
            state: state.into(),
            memory_per_executor: 512,
            started_ms,
            duration: 1,
        }
    }

    fn reply(apps: [(&str, &str); 3]) -> LeaderReport {
        let [first, second, third] = apps.map(|(id, state)| app(id, state, 1));
        LeaderReport {
            report: MasterReport {
                status: MasterStatus::Alive,
                url: String::new(),
                workers: vec![],
                activeapps: vec![first],
                completedapps: vec![second, third],
            },
            page: MasterPage::default(),
        }
    }

    #[test]
    fn drivers_share_a_row_with_their_recorded_applications() {
        let mut reply = reply([("app-3", "RUNNING"), ("app-2", "FINISHED"), ("app-1", "FINISHED")]);
        reply.report.completedapps.push(ApplicationReport {
            id: "app-4".into(),
            started_ms: 0,
            ..reply.report.completedapps[0].clone()
        });
        let driver = |name: &str, applications: &[&str], ended: bool, exit_code: Option<i32>| ObservedDriver {
            name: name.into(),
            ui_prefix: None,
            ui: ui(name),
            applications: applications.iter().map(|id| id.to_string()).collect(),
            ended,
            exit_code,
        };
        let drivers = [
            driver("runs", &["app-3"], false, None),
            driver("goes on", &["app-4"], false, None),
            // Its first application succeeded.
            driver("failed", &["app-1", "app-2"], true, Some(3)),
            // The previous leader, which knew its ended applications, no longer runs.
            driver("forgotten", &["app-0"], true, Some(1)),
            driver("killed", &[], true, None),
        ];
        let jobs = join(&reply, &drivers);
        let short: Vec<_> = jobs
            .iter()
            .map(|job| {
                (
                    job.id.as_deref(),
                    job.state.as_str(),
                    job.driver.as_deref(),
                    job.exit_code,
                )
            })
            .collect();
        assert_eq!(
            short,
            [
                (Some("app-0"), "FAILED", Some("forgotten"), Some(1)),
                (None, "ENDED", Some("killed"), None),
                (Some("app-3"), "RUNNING", Some("runs"), None),
                (Some("app-2"), "FAILED", Some("failed"), Some(3)),
                (Some("app-1"), "FINISHED", Some("failed"), Some(3)),
                (Some("app-4"), "FINISHED", Some("goes on"), None),
            ]
        );
        let end = |at: usize, requested| driver_to_end(&jobs[at], requested);
        assert_eq!(end(2, "app-3"), Some("runs".into()));
        assert_eq!(end(4, "app-1"), Some("failed".into()), "its remains are removed");
        assert_eq!((end(5, "app-4"), end(5, "goes on")), (None, Some("goes on".into())));
        assert_eq!(jobs[3].spark_state.as_deref(), Some("FINISHED"));
        let lost: Vec<_> = jobs.iter().filter(|job| job.would_be_lost()).collect();
        assert_eq!(lost.len(), 2, "{lost:?}");
    }

    #[test]
    fn an_orphan_has_one_row_whether_or_not_the_leader_lists_its_application() {
        let reply = reply([("app-3", "RUNNING"), ("app-2", "FINISHED"), ("app-1", "FINISHED")]);
        let driver = |name: &str, applications: &[&str]| ObservedDriver {
            name: name.into(),
            ui_prefix: None,
            ui: ui(name),
            applications: applications.iter().map(|id| id.to_string()).collect(),
            ended: false,
            exit_code: None,
        };
        let drivers = [
            driver("active", &["app-3"]),
            driver("recorded", &["app-2"]),
            driver("in-a-pod", &[]),
            driver("forgotten", &["app-0"]),
        ];
        let orphans =
            [("recorded", "app-2"), ("in-a-pod", "app-1"), ("forgotten", "app-0")].map(|(driver, id)| Orphan {
                driver: driver.into(),
                application: id.into(),
            });
        let jobs = marked(join(&reply, &drivers), &orphans);
        let short: Vec<_> = jobs
            .iter()
            .map(|job| (job.id.as_deref(), job.state.as_str(), job.driver.as_deref()))
            .collect();
        assert_eq!(
            short,
            [
                (Some("app-0"), "ORPHANED", Some("forgotten")),
                (Some("app-3"), "RUNNING", Some("active")),
                (Some("app-2"), "ORPHANED", Some("recorded")),
                (Some("app-1"), "ORPHANED", Some("in-a-pod")),
            ]
        );
        assert_eq!(jobs[2].orphan().as_ref(), Some(&orphans[0]));
        assert_eq!(jobs[1].orphan(), None);
        // Either name kills it.
        assert_eq!(driver_to_end(&jobs[2], "app-2").as_deref(), Some("recorded"));
    }

    #[test]
    fn only_running_drivers_without_an_active_application_are_queried() {
        let reply = reply([("app-3", "RUNNING"), ("app-2", "FINISHED"), ("app-1", "FINISHED")]);
        let driver = |name: &str, application: &str, ended: bool| ObservedDriver {
            name: name.into(),
            ui_prefix: None,
            ui: ui(name),
            applications: vec![application.into()],
            ended,
            exit_code: None,
        };
        let drivers = [
            driver("active", "app-3", false),
            driver("ended", "app-2", true),
            driver("goes-on", "app-1", false),
        ];
        let asked = without_application(&reply, &drivers);
        let asked: Vec<_> = asked.iter().map(|ui| ui.driver.as_str()).collect();
        assert_eq!(asked, ["goes-on"]);
    }

    #[test]
    fn an_ended_driver_pod_reports_its_applications_and_exit_code() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "spark-driver-0123abcd", "labels": {"app.kubernetes.io/component": "driver"}},
            "status": {"podIP": "10.1.2.3", "phase": "Failed", "containerStatuses": [{
                "name": "driver", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
                "state": {"terminated": {"exitCode": 3, "message": "app-1\napp-2\n"}},
            }]},
        }))
        .unwrap();
        let cluster = ClusterName::parse("spark").unwrap();
        let driver = drivers::among(&[pod], &cluster).remove(0);
        let observed = ObservedDriver::of(driver, "ns", &UiDomain::default());
        assert_eq!(
            (observed.applications, observed.ended, observed.exit_code),
            (vec!["app-1".into(), "app-2".into()], true, Some(3))
        );
        assert_eq!(observed.ui_prefix.as_deref(), Some("http://spark-10-1-2-3.ns.k8s:"));
    }

    #[test]
    fn applications_are_matched_to_drivers_by_web_ui() {
        let reply = LeaderReport {
            report: MasterReport {
                status: MasterStatus::Alive,
                url: String::new(),
                workers: vec![],
                activeapps: vec![app("app-1", "RUNNING", 1), app("app-2", "WAITING", 2)],
                completedapps: vec![app("app-0", "FINISHED", 0)],
            },
            page: MasterPage {
                version: None,
                driver_uis: [
                    ("app-1", "http://spark-10-1-2-3.ns.k8s:4040"),
                    ("app-2", "http://elsewhere:4040"),
                ]
                .map(|(id, ui)| (id.to_owned(), ui.to_owned()))
                .into(),
            },
        };
        let driver = |name: &str, host: &str, ended| ObservedDriver {
            name: name.into(),
            ui_prefix: Some(format!("http://{host}:")),
            ui: ui(name),
            applications: vec![],
            ended,
            exit_code: None,
        };
        let drivers = [
            // Another driver has its address now.
            driver("old", "spark-10-1-2-3.ns.k8s", true),
            driver("mine", "spark-10-1-2-3.ns.k8s", false),
            driver("young", "spark-10-1-2-4.ns.k8s", false),
        ];
        let jobs = join(&reply, &drivers);
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
