//! Runs programs in a pod's container with input, and follows containers' logs.

use std::io;
use std::time::Duration;

use futures::AsyncBufRead;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, LogParams};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::{Cluster, Error};

/// How many bytes may wait to be sent.
const BUFFER: usize = 256 * 1024;

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
}
