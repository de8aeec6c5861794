//! A small job that runs through a failover drill: it adds up squares again and again, so that it is known when it last could.

use std::io::{self, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Error;
use super::local::driver_environment;
use super::submit::job::Job;
use super::submit::output::Stream;
use super::submit::{self, Submission};
use crate::platform::kubernetes::Cluster;
use crate::platform::local::store::ClusterDir;
use crate::report::progress::Progress;
use crate::spec::names::ClusterName;
use crate::spec::quantity::Memory;

const JOB: &str = include_str!("canary.py");
/// The sum of the squares of 0 to 999.
const RESULT: &str = "332833500";

/// What it writes last.
const END: &str = "end";
/// Heap of a driver that does next to nothing.
const DRIVER_MEMORY: Memory = Memory::from_mib(512);

/// A running job.
pub struct Canary {
    voice: Voice,
    /// When each line came.
    lines: UnboundedReceiver<(Instant, String)>,
    heard: Vec<Instant>,
}

/// Where the job runs. It goes on until its `input` is dropped.
enum Voice {
    Process {
        child: Box<Child>,
        input: Option<ChildStdin>,
    },
    Pod {
        job: JoinHandle<Result<(), Error>>,
        input: Option<oneshot::Sender<()>>,
    },
}

/// What the job did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Song {
    /// It gave right results to the end, the last of them after the cluster was whole.
    pub went_on: bool,
    pub results: usize,
    /// The longest time without one, in seconds.
    pub longest_pause: f64,
}

impl Canary {
    /// Starts the job as a process of this machine, in a driver's environment.
    pub fn on_this_machine(dir: &ClusterDir) -> Result<Self, Error> {
        let (variables, _) = driver_environment(dir)?;
        let mut child = Command::new("python3")
            .args(["-c", JOB])
            .envs(variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::io("start python3"))?;
        let (sender, lines) = unbounded_channel();
        let output = child.stdout.take();
        tokio::spawn(async move {
            let Some(output) = output else { return };
            let mut output = BufReader::new(output).lines();
            while let Ok(Some(line)) = output.next_line().await {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        let child = Box::new(child);
        Ok(Self {
            voice: Voice::Process { child, input },
            lines,
            heard: vec![],
        })
    }

    /// Submits the job to a cluster on Kubernetes, from within a [`tokio::task::LocalSet`]. It ends by itself after `at_most`, should whoever
    /// began it be gone.
    pub fn on_kubernetes(cluster: &Cluster, name: &ClusterName, at_most: Duration) -> Self {
        let (sender, lines) = unbounded_channel();
        let (input, ended) = oneshot::channel();
        let job = tokio::task::spawn_local(in_a_pod(cluster.clone(), name.clone(), at_most, sender, ended));
        let input = Some(input);
        Self {
            voice: Voice::Pod { job, input },
            lines,
            heard: vec![],
        }
    }

    /// Waits for its first result.
    ///
    /// # Errors
    /// If there is none in time: the cluster is not to be touched then.
    pub async fn first_song(&mut self, within: Duration) -> Result<(), Error> {
        match tokio::time::timeout(within, self.lines.recv()).await {
            Ok(Some((at, line))) if line == RESULT => {
                self.heard.push(at);
                Ok(())
            }
            _ => {
                self.end().await?;
                Err(Error::NotInService {
                    missing: vec![format!("a small job gives no result within {} s", within.as_secs())],
                })
            }
        }
    }

    /// Ends the job, and removes what it was made of.
    async fn end(&mut self) -> Result<(), Error> {
        match &mut self.voice {
            Voice::Process { child, .. } => child.kill().await.map_err(Error::io("end the probe job")),
            Voice::Pod { job, input } => {
                input.take();
                let ended = job.await.map_err(io::Error::other);
                ended.map_err(Error::io("end the probe job"))?
            }
        }
    }

    /// Waits for one more result, and ends it.
    pub async fn last_song(mut self, within: Duration) -> Song {
        let whole = Instant::now();
        let singing = async {
            let mut right = false;
            while let Some((at, line)) = self.lines.recv().await {
                match line.as_str() {
                    RESULT => self.heard.push(at),
                    END => return right,
                    _ => return false,
                }
                if at > whole {
                    right = true;
                    match &mut self.voice {
                        Voice::Process { input, .. } => drop(input.take()),
                        Voice::Pod { input, .. } => drop(input.take()),
                    }
                }
            }
            false
        };
        let went_on = tokio::time::timeout(within, singing).await.unwrap_or_default();
        // It has ended, or is of no more use.
        let _ = self.end().await;
        let pauses = self.heard.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64());
        Song {
            went_on,
            results: self.heard.len(),
            longest_pause: (pauses.fold(0.0, f64::max) * 100.0).round() / 100.0,
        }
    }
}

/// Submits the job, passes its lines on, and ends it when `ended` comes.
async fn in_a_pod(
    cluster: Cluster,
    name: ClusterName,
    at_most: Duration,
    lines: UnboundedSender<(Instant, String)>,
    ended: oneshot::Receiver<()>,
) -> Result<(), Error> {
    let file = job_file().map_err(Error::io("write the probe job to a temporary file"))?;
    let job = Job {
        application: file.path().display().to_string(),
        arguments: vec![at_most.as_secs().to_string()],
        ..Job::default()
    };
    let submission = Submission {
        job: job.check()?,
        image: None,
        driver_memory: DRIVER_MEMORY,
        driver_cores: 1,
        keep: false,
        detach: false,
        wait: false,
        timeout: at_most,
    };
    let sink = |stream: Stream, line: &[u8]| {
        if stream == Stream::Output {
            let line = String::from_utf8_lossy(line).trim_end().to_owned();
            // Who does not listen any more has heard enough.
            let _ = lines.send((Instant::now(), line));
        }
    };
    let interrupted = async {
        let _ = ended.await;
    };
    let outcome = submit::submit(&cluster, &name, &submission, &sink, &Progress::new(true), interrupted).await;
    match outcome {
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
