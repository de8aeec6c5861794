//! `sparkha submit` on Kubernetes: creates a driver pod, sends it the user's files, follows its output, and removes it.
//! An interrupted submit leaves at most a pod, which ends by itself and which the next submit or teardown removes.

pub mod capacity;
mod driver_log;
mod driver_pod;
pub mod explain;
pub mod job;
pub mod local;
mod package;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;

use self::capacity::{ExecutorCapacity, executor_capacity};
use self::driver_log::{Followed, MissingLines, follow};
use self::driver_pod::{driver_in, exit_code, is_running, until_started};
use self::explain::{Explained, active_ids, explain};
use self::job::{CheckedJob, ResourceRequest};
use self::package::Package;
use crate::console::progress::Progress;
use crate::jobs::orphans::DriverUi;
use crate::lifecycle::inventory::inventory;
use crate::lifecycle::{Error, upgrade};
use crate::logs::streams::OutputStream;
use crate::model::kind::Kind;
use crate::model::labels::Component;
use crate::model::ports::DRIVER_UI_PORTS;
use crate::platform::kubernetes::{self, Cluster, drivers, watch::Watch};
use crate::platform::leader::{Leader, LeaderReport};
use crate::platform::transport::Transport;
use crate::platform::{Backend, Platform};
use crate::render::driver::{self, CONTAINER, Driver};
use crate::render::inventory::Inventory;
use crate::render::own_driver;
use crate::spec::image::version_in_image;
use crate::spec::words::counted;
use crate::state::ui_prefix;

/// A job and the options to run it.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    pub job: CheckedJob,
    /// An image other than the cluster's.
    pub image: Option<String>,
    pub driver_cores: u32,
    /// Keep the driver after its end.
    pub keep: bool,
    /// Return as soon as the driver runs.
    pub detach: bool,
    /// Wait for executors even if no worker of the cluster can ever run one.
    pub wait: bool,
    /// How long the driver may take to start.
    pub timeout: Duration,
}

impl Submission {
    /// The submission with executor cores that fit the cluster and the job.
    fn fitted(&self, defaults: &str, inventory: &Inventory) -> Self {
        let mut fitted = self.clone();
        let job = &mut fitted.job.job;
        let cluster = &inventory.cluster;
        let default_cores = cluster.executors.and_then(|executors| executors.default_cores);
        if let Some(cores) = job.fitting_cores(defaults, &cluster.workers, default_cores) {
            job.conf.insert(job::EXECUTOR_CORES.into(), cores.to_string());
        }
        fitted
    }

    /// Whether the job sets its number of cores.
    fn sets_cores(&self) -> bool {
        self.job.job.property(job::CORES_MAX).is_some()
    }
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// The application's own exit code.
    Ended { code: u8 },
    /// The driver's name.
    Detached { driver: String },
}

/// Receives the application's output, in lines or arbitrary pieces.
pub type Sink<'a> = &'a (dyn Fn(OutputStream, &[u8]) + Sync);

/// The property with the port of an application's web UI.
const UI_PORT: &str = "spark.ui.port";
/// Timeout of the first query to the leader.
const LEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How many times sending is tried.
const SEND_TRIES: u32 = 3;
/// How long after the log's end the API server may take to report the exit code.
const END_TIMEOUT: Duration = Duration::from_secs(120);
/// The same if the log was not read completely.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the master may take to unregister an application.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(20);

/// The cluster's settings for drivers.
struct DriverContext {
    inventory: Inventory,
    template: Pod,
    /// The cluster's own `spark-defaults.conf`.
    defaults: String,
    /// The driver script marks the end of the log.
    marks_end: bool,
}

/// Runs a job. In a pod, its output goes to `sink`; on this machine to sparkha's own. `interrupted` kills the job.
pub async fn submit(
    platform: &dyn Platform,
    submission: &Submission,
    sink: Sink<'_>,
    progress: &Progress,
    interrupted: impl Future<Output = ()>,
) -> Result<JobResult, Error> {
    let context = context(platform).await?;
    let submission = &submission.fitted(&context.defaults, &context.inventory);
    match platform.backend() {
        Backend::Kubernetes(cluster) => {
            in_a_pod(platform, cluster, context, submission, sink, progress, interrupted).await
        }
        Backend::Local(local) => local::submit(local, context, submission, progress, interrupted).await,
    }
}

async fn in_a_pod(
    platform: &dyn Platform,
    cluster: &Cluster,
    context: DriverContext,
    submission: &Submission,
    sink: Sink<'_>,
    progress: &Progress,
    interrupted: impl Future<Output = ()>,
) -> Result<JobResult, Error> {
    let name = platform.name();
    if let Some(image) = &submission.image {
        same_version(image, &context.inventory.cluster.image)?;
    }
    drivers::clean(cluster, name).await?;
    let driver = Driver {
        name: drivers::new_name(name),
        image: submission.image.clone(),
        heap: submission.job.job.driver_memory(&context.defaults),
        cores: submission.driver_cores,
        python: submission.job.job.is_python(),
        keep: submission.keep || submission.detach,
        one_log: true,
    };
    let mut run = JobRun {
        platform,
        cluster,
        submission,
        request: submission.job.job.resource_request(&context.defaults),
        inventory: &context.inventory,
        driver: &driver.name,
        marks_end: context.marks_end,
        kept: None,
        log_is_whole: false,
        watch: Watch::start(cluster, name).await,
        leader: Leader::new(Transport::PortForward(cluster.clone())),
        application: None,
        progress,
    };
    let pod = driver::pod(context.template, &driver);
    let outcome = tokio::select! {
        outcome = run.all(&pod, sink) => outcome,
        () = interrupted => Err(run.interrupted().await),
    };
    let stays = match &outcome {
        Ok(JobResult::Detached { .. }) => true,
        Ok(JobResult::Ended { .. }) => submission.keep,
        // Its log can still be read there, or its exit code.
        Err(_) => run.kept.is_some(),
    };
    progress.clear_parts();
    if stays {
        return outcome;
    }
    if outcome.is_err() {
        progress.step("Stopping the driver");
    }
    if let Err(error) = run.end(&outcome).await {
        progress.warn(&format!("failed to remove the driver {}: {error}", driver.name));
    }
    outcome
}

async fn context(platform: &dyn Platform) -> Result<DriverContext, Error> {
    let name = platform.name().conf();
    let (inventory, conf) = futures::join!(inventory(platform), platform.object(Kind::ConfigMap, &name));
    let inventory = inventory?;
    upgrade::takes_jobs(&inventory)?;
    let conf = conf?.ok_or_else(|| Error::no_cluster(platform))?;
    let conf: ConfigMap = conf.try_parse().map_err(|_| outdated(&inventory))?;
    let (template, defaults) = template(&conf, &inventory)?;
    let script = conf.data.as_ref().and_then(|data| data.get(driver::SCRIPT));
    Ok(DriverContext {
        inventory,
        template,
        defaults,
        marks_end: script.is_some_and(|script| driver::marks_end(script)),
    })
}

/// The driver's pod template and the cluster's defaults in its configuration.
fn template(conf: &ConfigMap, inventory: &Inventory) -> Result<(Pod, String), Error> {
    let part = |key: &str| conf.data.as_ref().and_then(|data| data.get(key)).cloned();
    let template = part(driver::TEMPLATE).and_then(|text| serde_json::from_str(&text).ok());
    let template: Pod = template.ok_or_else(|| outdated(inventory))?;
    let beyond = own_driver::beyond(&template, inventory);
    if !beyond.is_empty() {
        return Err(Error::Usage {
            message: format!(
                "the driver template in ConfigMap {} does not match this cluster: {} differs",
                inventory.cluster.name.conf(),
                beyond.join(", ")
            ),
            help: "find out who changed it, or whether another sparkha version created the cluster; `sparkha create` with the same arguments rewrites it".into(),
        });
    }
    Ok((template, part("spark-defaults.conf").unwrap_or_default()))
}

fn outdated(inventory: &Inventory) -> Error {
    Error::Usage {
        message: format!(
            "the cluster was created by sparkha {}, which could not run jobs",
            inventory.cluster.sparkha_version
        ),
        help: "run `sparkha create` with the same arguments again: no pod restarts".into(),
    }
}

/// Executors with another Spark version than the driver's do not work. The image tags may reveal the versions.
fn same_version(image: &str, clusters: &str) -> Result<(), Error> {
    match (version_in_image(image), version_in_image(clusters)) {
        (Some(requested), Some(there)) if requested != there => Err(Error::Usage {
            message: format!("the image {image} has Spark {requested}, but the cluster runs {there} ({clusters})"),
            help: format!("use an image with Spark {there}, or omit --image"),
        }),
        _ => Ok(()),
    }
}

/// One run of a job.
struct JobRun<'a> {
    platform: &'a dyn Platform,
    cluster: &'a Cluster,
    submission: &'a Submission,
    inventory: &'a Inventory,
    request: ResourceRequest,
    /// Name of the driver pod.
    driver: &'a str,
    marks_end: bool,
    /// Set if the pod is kept because its log could not be read, or its exit code is unknown; true if it is annotated, so that no
    /// other submit removes it.
    kept: Option<bool>,
    /// The job has ended, and all of its output was read.
    log_is_whole: bool,
    watch: Watch,
    leader: Leader,
    /// The application's ID, once the master knows it.
    application: Option<String>,
    progress: &'a Progress,
}

impl JobRun<'_> {
    async fn all(&mut self, pod: &Pod, sink: Sink<'_>) -> Result<JobResult, Error> {
        self.progress.part("Driver", "creating");
        let api = self.cluster.api::<Pod>();
        let created = self
            .cluster
            .create(&api, pod, &format!("create Pod {}", self.driver))
            .await;
        match created {
            // A request whose response was lost is retried. The name is unique.
            Ok(_) | Err(kubernetes::Error::Rejected { code: 409, .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // From now on an upgrade waits for this driver, unless it checked before.
        upgrade::takes_jobs(&inventory(self.platform).await?)?;
        let before = self.leader.query(self.watch.pods());
        let (started, before) = tokio::join!(
            until_started(&self.watch, self.driver, self.submission.timeout, self.progress),
            tokio::time::timeout(LEADER_TIMEOUT, before),
        );
        let started = started?;
        let before = before.ok().flatten();
        match &before {
            Some(reply) => check_capacity(self.request, self.submission, self.inventory, reply)?,
            None => self
                .progress
                .warn("no master leads at the moment: the job waits for one"),
        }
        let python = self.workers_python().await;
        self.send(&started, before.as_ref(), python).await?;
        if self.submission.detach {
            return Ok(JobResult::Detached {
                driver: self.driver.to_owned(),
            });
        }
        self.progress.part("Driver", "runs");
        let (cluster, driver, progress) = (self.cluster, self.driver, self.progress);
        let first = std::sync::Once::new();
        let sink = |stream: OutputStream, line: &[u8]| {
            first.call_once(|| progress.clear_parts());
            sink(stream, line);
        };
        let followed = Followed {
            logs: cluster,
            driver,
            marks_its_end: self.marks_end,
            progress,
        };
        let port = self.ui_port();
        let kept = &mut self.kept;
        let keep = async || {
            if kept.is_none() {
                let marked = drivers::keep(cluster, driver).await;
                if let Err(error) = &marked {
                    progress.warn(&format!("failed to mark the driver {driver} to be kept: {error}"));
                }
                *kept = Some(marked.is_ok());
            }
        };
        let following = follow(&followed, &sink, || driver_in(&self.watch, driver), keep);
        let explaining = explain(
            &mut self.leader,
            &mut self.application,
            || self.watch.pods(),
            Explained {
                inventory: self.inventory,
                known: before.map(|reply| active_ids(&reply.report)).unwrap_or_default(),
                ui_prefix: ui_prefix(
                    &started,
                    cluster.namespace().as_str(),
                    &self.inventory.cluster.ui_domain,
                ),
                ui: Some(DriverUi {
                    driver: driver.to_owned(),
                    port,
                    pod: started,
                }),
                request: self.request,
                sets_cores: self.submission.sets_cores(),
                wait: self.submission.wait,
            },
            progress,
        );
        let missing = tokio::select! {
            ended = following => ended?,
            hopeless = explaining => return Err(hopeless),
        };
        self.log_is_whole = missing.is_none();
        self.result(missing).await
    }

    /// The result of a job whose log was followed to its end.
    async fn result(&mut self, missing: Option<MissingLines>) -> Result<JobResult, Error> {
        let driver = self.driver;
        let within = if missing.is_none() { END_TIMEOUT } else { LOOK_TIMEOUT };
        let code = exit_code(&self.watch, driver, within, self.progress).await;
        match (missing, code) {
            (None, Some(code)) => Ok(JobResult::Ended { code }),
            (None, None) => {
                self.keep().await;
                Err(Error::Driver {
                    message: format!(
                        "the job has ended, but the node of its driver {driver} does not report the exit code"
                    ),
                    help: format!(
                        "its output is complete; `kubectl get nodes` shows whether the node is lost; {}",
                        self.to_read()
                    ),
                })
            }
            (Some(missing), code) => Err(self.incomplete(&missing, code).await),
        }
    }

    /// The error for an interrupt. It kills a job that has not ended.
    async fn interrupted(&mut self) -> Error {
        if self.log_is_whole {
            self.keep().await;
        }
        Error::Interrupted {
            next: match self.kept {
                Some(_) => format!("the job had ended; {}", self.to_read()),
                None => "the job was killed; submit it again".into(),
            },
        }
    }

    /// Keeps the driver's pod after its end.
    async fn keep(&mut self) {
        if self.kept.is_none() {
            self.kept = Some(drivers::keep(self.cluster, self.driver).await.is_ok());
        }
    }

    /// The port of the driver's web UI.
    fn ui_port(&self) -> u16 {
        let port = self.submission.job.job.property(UI_PORT);
        let port = port.and_then(|port| port.trim().parse().ok());
        port.unwrap_or(*DRIVER_UI_PORTS.start())
    }

    /// The error for an incomplete log. The pod is kept.
    async fn incomplete(&mut self, missing: &MissingLines, code: Option<u8>) -> Error {
        let help = match driver_in(&self.watch, self.driver) {
            Some(_) => {
                self.keep().await;
                self.to_read()
            }
            None => "its log no longer exists".to_owned(),
        };
        // The exit code of a removed pod is a guess.
        let code = code.filter(|_| driver_in(&self.watch, self.driver).is_some());
        let ended = match code {
            Some(code) => format!("the job ended with exit code {code}"),
            None => "the exit code of the job is unknown".to_owned(),
        };
        Error::Incomplete {
            message: format!("{missing}; {ended}"),
            help,
        }
    }

    /// How to read the log or the exit code of the kept driver, and how to remove it.
    fn to_read(&self) -> String {
        let driver = self.driver;
        let until = match self.kept {
            Some(true) => "",
            _ => " (the next submit removes it ten minutes after its end)",
        };
        let shows = match self.log_is_whole {
            true => "`sparkha jobs` shows its exit code once its node reports it".to_owned(),
            false => format!("`sparkha logs {driver}` shows its log once its node can be reached"),
        };
        format!("the driver {driver} is kept{until}: {shows}, `sparkha jobs --kill {driver}` removes it")
    }

    /// The Python version of the workers, if the driver's may differ.
    async fn workers_python(&self) -> Option<String> {
        if self.submission.image.is_none() || !self.submission.job.job.is_python() {
            return None;
        }
        let pods = self.watch.pods();
        let worker = pods
            .iter()
            .find(|pod| Component::of(pod.labels()) == Some(Component::Worker) && is_running(pod))?;
        let program = "import sys; print(\"%d.%d\" % sys.version_info[:2])";
        let command = ["python3", "-c", program].map(str::to_owned);
        let ran = self
            .cluster
            .exec(&worker.name_any(), Component::Worker.as_str(), &command, async |_| {
                Ok(())
            })
            .await;
        ran.ok()
            .filter(|ended| ended.success)
            .map(|ended| ended.output.trim().to_owned())
    }

    /// Sends the package, and retries if the connection is lost.
    async fn send(&self, pod: &Pod, before: Option<&LeaderReport>, python: Option<String>) -> Result<(), Error> {
        let folder = pod.spec.iter().flat_map(|spec| &spec.containers).find_map(|container| {
            let env = container
                .env
                .iter()
                .flatten()
                .find(|env| env.name == "SPARKHA_DRIVER_DIR");
            env?.value.clone()
        });
        let folder = format!("{}/sent", folder.unwrap_or_default());
        let job = &self.submission.job;
        let mut texts = texts(job, |file| format!("{folder}/{}", file.sent_as));
        let version = before.and_then(|reply| reply.page.version.clone());
        for (what, version) in [("Spark", version), ("Python", python)] {
            texts.extend(version.map(|version| (format!("expected-{what}"), version.into_bytes())));
        }
        let package = Package::of(&job.files, texts).map_err(Error::io("read the files to send"))?;
        let length = package.length().map_err(Error::io("pack the files to send"))?;
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut command: Vec<_> = containers
            .flat_map(|container| container.command.iter().flatten())
            .cloned()
            .collect();
        command.extend(["receive".to_owned(), length.to_string()]);
        let mut tries = 1;
        loop {
            let show = |sent: u64| {
                if length > 1024 * 1024 {
                    let what = format!("Sending {}", counted(job.files.len(), "file"));
                    self.progress.bytes(&what, sent, length);
                }
            };
            let feed =
                async |mut to: &mut (dyn tokio::io::AsyncWrite + Send + Unpin)| package.send(&mut to, show).await;
            let sent = self.cluster.exec(self.driver, CONTAINER, &command, feed).await;
            let error = match sent {
                Ok(ended) if ended.success => break,
                Ok(ended) => Error::Driver {
                    message: format!("the driver failed to receive the files: {}", ended.errors),
                    help: "check whether its volume is full; pass --keep to keep the pod for inspection".into(),
                },
                Err(error @ kubernetes::Error::Unreachable { .. }) => error.into(),
                Err(error) => return Err(error.into()),
            };
            if tries >= SEND_TRIES {
                return Err(error);
            }
            tries += 1;
            tracing::info!("{error}; sending again");
        }
        let sizes = job
            .files
            .iter()
            .filter_map(|file| Some(file.path.metadata().ok()?.len()));
        let bytes = sizes.sum();
        self.progress.part("Files", &sent_text(job.files.len(), bytes));
        Ok(())
    }

    /// Stops the driver, and waits until the master has unregistered its application.
    async fn end(&mut self, outcome: &Result<JobResult, Error>) -> Result<(), Error> {
        drivers::terminate(self.cluster, self.driver).await?;
        if matches!(outcome, Ok(JobResult::Ended { .. })) {
            return Ok(());
        }
        let Some(application) = self.application.take() else {
            return Ok(drivers::wait_until_ended(self.cluster, self.driver).await?);
        };
        // The master notices sooner than the API server.
        let pods = || self.watch.pods();
        if !self.leader.until_gone(&application, pods, UNREGISTER_TIMEOUT).await {
            self.progress.warn(&format!("the master still lists {application}"));
        }
        Ok(())
    }
}

/// Fails if no worker can ever run the requested executors.
fn check_capacity(
    request: ResourceRequest,
    submission: &Submission,
    inventory: &Inventory,
    reply: &LeaderReport,
) -> Result<(), Error> {
    // The application itself may still set what the options do not.
    if request == ResourceRequest::default() || submission.wait {
        return Ok(());
    }
    match executor_capacity(request, &reply.report.workers, &inventory.cluster.workers) {
        ExecutorCapacity::Never(message) => Err(Error::NoCapacity { message }),
        _ => Ok(()),
    }
}

fn sent_text(files: usize, bytes: u64) -> String {
    let files = counted(files, "file");
    match bytes {
        0..10_240 => format!("{files} sent, {}", counted(bytes, "byte")),
        10_240..10_485_760 => format!("{files} sent, {} KiB", bytes / 1024),
        _ => format!("{files} sent, {} MiB", bytes / 1_048_576),
    }
}

/// The texts beside the files: the arguments of spark-submit, each terminated by NUL, and the application's
/// configuration.
fn texts(job: &CheckedJob, folder: impl Fn(&job::LocalFile) -> String) -> Vec<(String, Vec<u8>)> {
    let arguments: String = job
        .arguments(folder)
        .into_iter()
        .map(|argument| argument + "\0")
        .collect();
    vec![
        ("arguments".into(), arguments.into_bytes()),
        ("spark.conf".into(), job.job.conf_text().into_bytes()),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kube::client::Body;
    use serde_json::json;

    use super::job::Job;
    use super::*;
    use crate::platform::kubernetes::KubernetesPlatform;
    use crate::spec::resolve::resolve;

    const DRIVER: &str = "spark-driver-0123abcd";

    /// Runs a part of a submit, of a job whose driver is in this state. Returns what was requested of the pod, and the part's result.
    async fn run_with<T>(
        container: serde_json::Value,
        log_is_whole: bool,
        part: impl AsyncFnOnce(&mut JobRun<'_>) -> T,
    ) -> (Vec<String>, T) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": DRIVER, "namespace": "etl"},
            "status": {"containerStatuses": [{
                "name": "driver", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": container,
            }]},
        });
        let changes = Arc::new(Mutex::new(Vec::new()));
        let seen = changes.clone();
        let cluster = Cluster::of_server(move |request: hyper::Request<Body>| {
            let (method, uri) = (request.method().to_string(), request.uri().clone());
            let (pod, seen) = (pod.clone(), seen.clone());
            async move {
                let listed = if uri.path().ends_with("/pods") {
                    vec![pod.clone()]
                } else {
                    vec![]
                };
                match method.as_str() {
                    "GET" if uri.query().unwrap_or_default().contains("watch=") => std::future::pending().await,
                    "GET" => json!({"metadata": {"resourceVersion": "1"}, "items": listed}).to_string(),
                    _ => {
                        seen.lock().unwrap().push(method);
                        pod.to_string()
                    }
                }
            }
        });
        let spec = resolve(None, &Default::default()).unwrap();
        let name = &spec.name;
        let submission = Submission {
            job: CheckedJob {
                job: Job::default(),
                files: vec![],
            },
            image: None,
            driver_cores: 1,
            keep: false,
            detach: false,
            wait: false,
            timeout: Duration::ZERO,
        };
        let mut run = JobRun {
            platform: &KubernetesPlatform::new(&cluster, name),
            cluster: &cluster,
            submission: &submission,
            inventory: &Inventory::of(&spec, &[]),
            request: ResourceRequest::default(),
            driver: DRIVER,
            marks_end: true,
            kept: None,
            log_is_whole,
            watch: Watch::start(&cluster, name).await,
            leader: Leader::new(Transport::PortForward(cluster.clone())),
            application: None,
            progress: &Progress::new(true),
        };
        let result = part(&mut run).await;
        drop(run);
        let changes = changes.lock().unwrap().clone();
        (changes, result)
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupt_after_a_jobs_end_keeps_its_exit_code() {
        let running = || json!({"running": {}});
        let (changes, error) = run_with(running(), true, async |run| run.interrupted().await).await;
        let help = error.help().unwrap();
        assert_eq!(changes, ["PATCH"], "{help}");
        assert!(help.starts_with(
            "the job had ended; the driver spark-driver-0123abcd is kept: `sparkha jobs` shows its exit code"
        ));
        let (changes, error) = run_with(running(), false, async |run| run.interrupted().await).await;
        assert_eq!(
            (changes.len(), error.help().unwrap().as_str()),
            (0, "the job was killed; submit it again")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_whose_exit_code_is_unknown_is_kept() {
        let (changes, (result, kept)) = run_with(json!({"running": {}}), true, async |run| {
            (run.result(None).await, run.kept)
        })
        .await;
        let help = result.unwrap_err().help().unwrap();
        assert_eq!(
            (changes.as_slice(), kept),
            (["PATCH".to_owned()].as_slice(), Some(true)),
            "{help}"
        );
        assert!(
            help.contains("its output is complete") && help.contains("`sparkha jobs` shows its exit code"),
            "{help}"
        );
        let ended = json!({"terminated": {"exitCode": 3}});
        let (changes, result) = run_with(ended, true, async |run| run.result(None).await).await;
        assert_eq!((changes.len(), result.unwrap()), (0, JobResult::Ended { code: 3 }));
    }
}
