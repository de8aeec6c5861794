//! A driver's log, followed to its end: a stream that is lost is taken up where it was.

use std::time::Duration;

use futures::AsyncBufReadExt;
use k8s_openapi::api::core::v1::Pod;

use super::output::{Position, unmarked};
use super::{Sink, drivers};
use crate::platform::kubernetes::{self, Cluster};
use crate::render::driver::CONTAINER;
use crate::steps::Error;

const AGAIN_AFTER: Duration = Duration::from_millis(300);

/// Follows until the driver has ended and everything of its log was read. `look` gives the pod as it is now.
pub async fn follow(
    cluster: &Cluster,
    driver: &str,
    sink: Sink<'_>,
    look: impl Fn() -> Option<Pod>,
) -> Result<(), Error> {
    let mut position = Position::default();
    loop {
        let had_ended = look().is_none_or(|pod| drivers::ended(&pod).is_some());
        position.again();
        match read(cluster, driver, &mut position, !had_ended, sink).await {
            Ok(()) if had_ended => return Ok(()),
            Ok(()) => {}
            // Its pod has been removed: there is nothing left to read.
            Err(kubernetes::Error::Rejected { code: 404, .. }) => return Ok(()),
            Err(error @ kubernetes::Error::Forbidden { .. }) => return Err(error.into()),
            Err(error) => tracing::info!("the driver's log was cut off and is taken up again: {error}"),
        }
        if !had_ended {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

async fn read(
    cluster: &Cluster,
    driver: &str,
    position: &mut Position,
    follow: bool,
    sink: Sink<'_>,
) -> Result<(), kubernetes::Error> {
    let since = position.since();
    let mut stream = cluster.log(driver, CONTAINER, since.as_deref(), follow).await?;
    let mut line = Vec::new();
    loop {
        line.clear();
        // A line without its end was cut off: it comes again.
        match stream.read_until(b'\n', &mut line).await {
            Ok(0) => return Ok(()),
            Ok(_) if line.last() != Some(&b'\n') && follow => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                return Err(kubernetes::Error::Protocol {
                    action: format!("read the log of {driver}"),
                    message: error.to_string(),
                });
            }
        }
        if let Some(text) = position.unread(&line) {
            let (stream, text) = unmarked(&text);
            sink(stream, text);
        }
    }
}
