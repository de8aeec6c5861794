//! A small job that runs during a failover drill. It sums squares repeatedly, so that pauses show.

use std::any::Any;
use std::io::{self, Write};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::console::progress::Progress;
use crate::jobs;
use crate::jobs::submit::Submission;
use crate::jobs::submit::capacity::{ExecutorCapacity, executor_capacity};
use crate::jobs::submit::explain::{Explained, active_ids, explain};
use crate::jobs::submit::job::{self, Job, ResourceRequest};
use crate::jobs::submit::local::observed_pods;
use crate::lifecycle::Error;
use crate::logs::streams::OutputStream;
use crate::model::reports::WorkerReport;
use crate::platform::leader::Leader;
use crate::platform::local::LocalPlatform;
use crate::platform::{Backend, Platform};
use crate::render::inventory::Inventory;
use crate::spec::quantity::Memory;

const JOB: &str = include_str!("probe_job.py");
/// The sum of the squares of 0 to 999.
const RESULT: &str = "332833500";

/// Its last line.
const END: &str = "end";
/// Heap of a driver that does almost nothing.
const DRIVER_MEMORY: Memory = Memory::from_mib(512);
/// Memory of its executor, which has one core. Set in probe_job.py.
const EXECUTOR_MEMORY: Memory = Memory::from_mib(512);

/// A running probe job.
pub struct ProbeJob {
    driver: ProbeDriver,
    /// The job runs until this is dropped: the process's standard input, or what interrupts the submission.
    input: Option<Box<dyn Any>>,
    /// Ends if the job can never get its executor.
    hopeless: LocalBoxFuture<'static, Error>,
    /// Each line with its arrival time.
    lines: UnboundedReceiver<(Instant, String)>,
    results: Vec<Instant>,
    last_error: LastError,
}

/// The last line of its standard error, which explains a failure.
#[derive(Clone, Default)]
struct LastError(Arc<Mutex<String>>);

impl LastError {
    fn is(&self, line: &str) {
        let line = line.trim();
        if !line.is_empty() {
            line.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl std::fmt::Display for LastError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_str() {
            "" => Ok(()),
            line => write!(f, "; its last error line: {line}"),
        }
    }
}

/// The resources that the job requests.
fn resource_request() -> ResourceRequest {
    ResourceRequest {
        executor_memory: Some(EXECUTOR_MEMORY),
        executor_cores: Some(1),
    }
}

/// Whether the leader's workers have capacity for the job.
pub fn capacity_for_probe_job(workers: &[WorkerReport], inventory: &Inventory) -> ExecutorCapacity {
    executor_capacity(resource_request(), workers, &inventory.cluster.workers)
}

/// Passes each line to `take`.
fn each_line(from: Option<impl AsyncRead + Unpin + Send + 'static>, take: impl Fn(String) + Send + 'static) {
    tokio::spawn(async move {
        let Some(from) = from else { return };
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            take(line);
        }
    });
}

/// The driver of the job.
enum ProbeDriver {
    Process(Box<Child>),
    /// The submission of a driver pod.
    Pod(JoinHandle<Result<(), Error>>),
}

/// Result of the probe job.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeResult {
    /// All results were right, and the last one came after the cluster was in service again.
    pub went_on: bool,
    pub results: usize,
    /// The longest time between two results, in seconds.
    pub longest_pause: f64,
}

impl ProbeJob {
    /// Starts the job, from within a [`tokio::task::LocalSet`]. If sparkha dies, the job ends by itself after `at_most`.
    pub async fn start(
        platform: &Rc<dyn Platform>,
        inventory: &Inventory,
        at_most: Duration,
        progress: &Arc<Progress>,
    ) -> Result<Self, Error> {
        match platform.backend() {
            Backend::Kubernetes(_) => Ok(Self::in_a_pod(platform.clone(), at_most, progress.clone())),
            Backend::Local(local) => Self::as_a_process(local, inventory.clone(), progress.clone()).await,
        }
    }

    /// Starts the job as a process on this machine, in a driver's environment. It ends together with sparkha.
    async fn as_a_process(
        platform: &LocalPlatform,
        inventory: Inventory,
        progress: Arc<Progress>,
    ) -> Result<Self, Error> {
        let (variables, _) = platform.driver_environment(&inventory)?;
        let mut leader = Leader::new(platform.transport());
        let before = leader.report(platform.pods().await?).await;
        let mut child = Command::new("python3")
            .args(["-c", JOB])
            .envs(variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::io("start python3"))?;
        let (sender, lines) = unbounded_channel();
        each_line(child.stdout.take(), move |line| {
            // The receiver is dropped at the end of the drill.
            let _ = sender.send((Instant::now(), line));
        });
        let last_error = LastError::default();
        let errors = last_error.clone();
        each_line(child.stderr.take(), move |line| errors.is(&line));
        let dir = platform.dir.clone();
        let known = before.map(|(_, report)| active_ids(&report)).unwrap_or_default();
        let hopeless = async move {
            let explained = Explained {
                inventory: &inventory,
                known,
                ui_prefix: None,
                ui: None,
                request: resource_request(),
                sets_cores: true,
                wait: false,
            };
            explain(&mut leader, &mut None, || observed_pods(&dir), explained, &progress).await
        };
        Ok(Self {
            input: child.stdin.take().map(|input| Box::new(input) as Box<dyn Any>),
            driver: ProbeDriver::Process(Box::new(child)),
            hopeless: hopeless.boxed_local(),
            lines,
            results: vec![],
            last_error,
        })
    }

    /// Submits the job.
    fn in_a_pod(platform: Rc<dyn Platform>, at_most: Duration, progress: Arc<Progress>) -> Self {
        let (sender, lines) = unbounded_channel();
        let (input, ended) = oneshot::channel();
        let last_error = LastError::default();
        let submitted = submit(platform, at_most, sender, last_error.clone(), progress, ended);
        Self {
            driver: ProbeDriver::Pod(tokio::task::spawn_local(submitted)),
            input: Some(Box::new(input)),
            // The submission explains that.
            hopeless: std::future::pending().boxed_local(),
            lines,
            results: vec![],
            last_error,
        }
    }

    /// Waits for the first result, and reports what it waits for.
    ///
    /// # Errors
    /// Fails if there is none in time: then the cluster must not be changed.
    pub async fn wait_for_first_result(&mut self, within: Duration, progress: &Progress) -> Result<(), Error> {
        progress.part(
            "Job",
            &format!("starting; waiting up to {} s for its first result", within.as_secs()),
        );
        let hopeless = std::mem::replace(&mut self.hopeless, std::future::pending().boxed_local());
        let first = tokio::select! {
            first = tokio::time::timeout(within, self.lines.recv()) => first,
            hopeless = hopeless => {
                self.end().await?;
                return Err(hopeless);
            }
        };
        progress.clear_parts();
        let reason = match first {
            Ok(Some((at, line))) if line == RESULT => {
                self.results.push(at);
                return Ok(());
            }
            Ok(_) => format!("it ended or returned a wrong result{}", self.last_error),
            Err(_) => format!("no result within {} s{}", within.as_secs(), self.last_error),
        };
        self.end().await?;
        Err(Error::NoResult { reason })
    }

    /// Stops the job and removes its driver.
    pub async fn end(&mut self) -> Result<(), Error> {
        match &mut self.driver {
            ProbeDriver::Process(child) => child.kill().await.map_err(Error::io("stop the probe job")),
            ProbeDriver::Pod(job) => {
                self.input = None;
                let ended = job.await.map_err(io::Error::other);
                ended.map_err(Error::io("stop the probe job"))?
            }
        }
    }

    /// Waits for one more result, and stops the job.
    pub async fn finish(mut self, within: Duration) -> ProbeResult {
        let recovered_at = Instant::now();
        let receiving = async {
            let mut right = false;
            while let Some((at, line)) = self.lines.recv().await {
                match line.as_str() {
                    RESULT => self.results.push(at),
                    END => return right,
                    _ => return false,
                }
                if at > recovered_at {
                    right = true;
                    self.input = None;
                }
            }
            false
        };
        let went_on = tokio::time::timeout(within, receiving).await.unwrap_or_default();
        // It has ended or is no longer needed.
        let _ = self.end().await;
        let pauses = self.results.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64());
        ProbeResult {
            went_on,
            results: self.results.len(),
            longest_pause: (pauses.fold(0.0, f64::max) * 100.0).round() / 100.0,
        }
    }
}

/// Submits the job, passes its lines on, and stops it on `ended`.
async fn submit(
    platform: Rc<dyn Platform>,
    at_most: Duration,
    lines: UnboundedSender<(Instant, String)>,
    last_error: LastError,
    progress: Arc<Progress>,
    ended: oneshot::Receiver<()>,
) -> Result<(), Error> {
    let file = job_file().map_err(Error::io("write the probe job to a temporary file"))?;
    let job = Job {
        application: file.path().display().to_string(),
        arguments: vec![at_most.as_secs().to_string()],
        conf: [(job::DRIVER_MEMORY.to_owned(), DRIVER_MEMORY.spark())].into(),
        ..Job::default()
    };
    let submission = Submission {
        job: job.check()?,
        image: None,
        driver_cores: 1,
        keep: false,
        detach: false,
        wait: false,
        timeout: at_most,
    };
    let sink = |stream: OutputStream, line: &[u8]| {
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        match stream {
            OutputStream::Output => {
                let _ = lines.send((Instant::now(), line));
            }
            OutputStream::Errors => last_error.is(&line),
        }
    };
    let interrupted = async {
        let _ = ended.await;
    };
    match jobs::submit::submit(platform.as_ref(), &submission, &sink, &progress, interrupted).await {
        Ok(_) | Err(Error::Interrupted { .. }) => {
            let _ = lines.send((Instant::now(), END.to_owned()));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn job_file() -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix("sparkha-canary-")
        .suffix(".py")
        .tempfile()?;
    file.write_all(JOB.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_requests_the_resources_declared_here() {
        let memory = format!("\"spark.executor.memory\", \"{}m\"", EXECUTOR_MEMORY.mib());
        for line in [memory.as_str(), "\"spark.cores.max\", \"1\""] {
            assert!(JOB.contains(line), "{line}");
        }
    }
}
