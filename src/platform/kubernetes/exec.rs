//! Programs run in a pod's container with something to read, and containers' logs as they are written.

use std::io;
use std::time::Duration;

use futures::AsyncBufRead;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, LogParams};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::{Cluster, Error};

/// How much may wait to be sent.
const BUFFER: usize = 256 * 1024;

/// A program that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecResult {
    pub success: bool,
    pub output: String,
    /// What it wrote to standard error, or what the API server says.
    pub errors: String,
}

impl Cluster {
    /// Runs a program in a container, feeds its standard input, and waits for its end. The input cannot be closed: the program must know by itself when it
    /// has read all.
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
        let lost = |message: String| Error::Unreachable {
            server: self.server.clone(),
            reason: format!("{action}: {message}"),
        };
        let (Some(mut input), Some(mut output), Some(mut errors), Some(status)) = (
            process.stdin(),
            process.stdout(),
            process.stderr(),
            process.take_status(),
        ) else {
            return Err(lost("the API server opened no streams".into()));
        };
        let reading = async {
            let (mut stdout, mut stderr) = (String::new(), String::new());
            let _ = tokio::join!(output.read_to_string(&mut stdout), errors.read_to_string(&mut stderr));
            (status.await, stdout, stderr)
        };
        tokio::pin!(reading);
        let mut end = None;
        let fed = tokio::select! {
            // A program may end without having read all.
            ended = &mut reading => {
                end = Some(ended);
                Ok(())
            }
            fed = feed(&mut input) => fed,
        };
        // What cannot be read here cannot be sent; what the pod no longer takes, its status explains.
        if let Err(error) = fed
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(Error::Protocol {
                action,
                message: error.to_string(),
            });
        }
        let (status, output, mut errors) = match end {
            Some(end) => end,
            None => reading.await,
        };
        let Some(status) = status else {
            return Err(lost("the stream was lost".into()));
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

    /// A pod's log, as it is written. One attempt, bounded in time: callers that follow a log retry.
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
}
