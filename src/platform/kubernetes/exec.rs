//! Runs programs in a pod's container with input, and follows containers' logs.

use std::io;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use futures::AsyncBufRead;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{AttachParams, LogParams};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::{Cluster, Error};
use crate::model::log_line::TimestampedLine;

/// How many bytes may wait to be sent.
const BUFFER: usize = 256 * 1024;

/// How often the log of a container's previous run is read again, where a kubelet has just removed that run.
const LOG_RETRIES: ConstantBuilder = ConstantBuilder::new()
    .with_delay(Duration::from_millis(500))
    .with_max_times(3);

/// The result of a program that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecResult {
    pub success: bool,
    pub output: String,
    /// What the program wrote to standard error, or else the API server's message.
    pub errors: String,
}

impl Cluster {
    /// Runs a program in a container, writes to its standard input with `feed`, and waits until it ends. The input cannot be closed: the
    /// program must recognise the end of its input itself.
    pub async fn exec(
        &self,
        pod: &str,
        container: &str,
        command: &[String],
        feed: impl AsyncFnOnce(&mut (dyn AsyncWrite + Send + Unpin)) -> io::Result<()>,
    ) -> Result<ExecResult, Error> {
        let api = self.api::<Pod>();
        let action = format!("run {} in {pod}", command.join(" "));
        let params = AttachParams::default()
            .container(container)
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .max_stdin_buf_size(BUFFER);
        let mut process = self.call(&action, || api.exec(pod, command, &params)).await?;
        let unreachable = |message: String| Error::Unreachable {
            server: self.server.to_string(),
            reason: format!("{action}: {message}"),
        };
        let (Some(mut input), Some(mut output), Some(mut errors), Some(status)) = (
            process.stdin(),
            process.stdout(),
            process.stderr(),
            process.take_status(),
        ) else {
            return Err(unreachable("the API server did not open the streams".into()));
        };
        let output_and_status = async {
            let (mut stdout, mut stderr) = (String::new(), String::new());
            let _ = tokio::join!(output.read_to_string(&mut stdout), errors.read_to_string(&mut stderr));
            (status.await, stdout, stderr)
        };
        tokio::pin!(output_and_status);
        let mut end = None;
        let written = tokio::select! {
            // A program may end before it has read all input.
            ended = &mut output_and_status => {
                end = Some(ended);
                Ok(())
            }
            written = feed(&mut input) => written,
        };
        // Reading the input failed here. A broken pipe is no failure: the pod's status explains it.
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(Error::Protocol {
                action,
                message: error.to_string(),
            });
        }
        let (status, output, mut errors) = match end {
            Some(end) => end,
            None => output_and_status.await,
        };
        let Some(status) = status else {
            return Err(unreachable("the stream was lost".into()));
        };
        let success = status.status.as_deref() == Some("Success");
        if !success && errors.is_empty() {
            errors = status.message.unwrap_or_default();
        }
        Ok(ExecResult {
            success,
            output,
            errors: errors.trim().to_owned(),
        })
    }

    /// A stream of a pod's log. One attempt, bounded in time: callers that follow a log retry by themselves.
    pub async fn log(
        &self,
        pod: &str,
        params: &LogParams,
        within: Duration,
    ) -> Result<impl AsyncBufRead + Send + Unpin + use<>, Error> {
        let api = self.api::<Pod>();
        let action = format!("read the log of {pod}");
        let stream = self.once(&action, within, api.log_stream(pod, params)).await?;
        Ok(Box::pin(stream))
    }

    /// The last lines of the log of a container's previous run.
    pub async fn previous_log(&self, pod: &Pod, container: &str, lines: i64) -> Result<String, Error> {
        let api = self.api::<Pod>();
        let name = pod.name_any();
        let action = format!("read the log of {name}");
        let params = LogParams {
            container: Some(container.to_owned()),
            tail_lines: Some(lines),
            previous: true,
            timestamps: true,
            ..LogParams::default()
        };
        let attempt = || async {
            let log = self.call(&action, || api.logs(&name, &params)).await?;
            without_times(&log).ok_or_else(|| {
                let action = action.clone();
                Error::Protocol { action, message: log }
            })
        };
        let retried = attempt
            .retry(LOG_RETRIES)
            .when(|error| matches!(error, Error::Protocol { .. }));
        retried.await
    }
}

/// The lines of a log that was read with times. `None` if one has no time: then it is not the container's, but a kubelet's message, which comes as
/// the log if the run was removed at that moment.
fn without_times(log: &str) -> Option<String> {
    let lines = log.split_inclusive('\n').map(|line| {
        let line = TimestampedLine::parse(line.as_bytes())?;
        Some(String::from_utf8_lossy(&line.text).into_owned())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LOG: &str = "2026-11-30T09:57:07.1Z one\n2026-11-30T09:57:07.123456789Z \n2026-11-30T09:57:08Z  two";
    const REMOVED: &str = "unable to retrieve container logs for containerd://1";

    /// The previous log of a pod whose API server sends these responses, the last one for ever.
    async fn previous_log(responses: &'static [&'static str]) -> Result<String, Error> {
        let sent = Arc::new(AtomicUsize::new(0));
        let cluster = Cluster::of_server(move |_| {
            let next = sent.fetch_add(1, Ordering::Relaxed).min(responses.len() - 1);
            async move { responses[next].to_owned() }
        });
        cluster.previous_log(&Pod::default(), "master", 10).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_kubelets_message_is_not_taken_for_the_log_of_a_run_that_was_just_removed() {
        assert_eq!(previous_log(&[LOG]).await.unwrap(), "one\n\n two");
        assert_eq!(previous_log(&[""]).await.unwrap(), "");
        assert_eq!(previous_log(&[REMOVED, LOG]).await.unwrap(), "one\n\n two");
        let error = previous_log(&[REMOVED]).await.unwrap_err().to_string();
        assert!(error.contains("read the log of ") && error.contains(REMOVED), "{error}");
    }
}
