//! A small job that runs through a failover drill: it adds up squares again and again, so that it is known when it last could.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::Error;
use super::local::driver_environment;
use crate::platform::local::store::ClusterDir;

const JOB: &str = include_str!("canary.py");
/// The sum of the squares of 0 to 999.
const RESULT: &str = "332833500";

/// A running job.
pub struct Canary {
    child: Child,
    /// It goes on until this is closed.
    input: Option<ChildStdin>,
    /// When each line came.
    lines: UnboundedReceiver<(Instant, String)>,
    heard: Vec<Instant>,
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
            .spawn()?;
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
        Ok(Self {
            input: child.stdin.take(),
            child,
            lines,
            heard: vec![],
        })
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
            _ => Err(Error::NotInService {
                missing: vec![format!("a small job gives no result within {} s", within.as_secs())],
            }),
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
                    "end" => return right,
                    _ => return false,
                }
                if at > whole {
                    right = true;
                    self.input = None;
                }
            }
            false
        };
        let went_on = tokio::time::timeout(within, singing).await.unwrap_or_default();
        let _ = self.child.kill().await;
        let pauses = self.heard.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64());
        Song {
            went_on,
            results: self.heard.len(),
            longest_pause: (pauses.fold(0.0, f64::max) * 100.0).round() / 100.0,
        }
    }
}
