//! DNS over TCP (RFC 7766), bounded in connections, time and memory.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::AFTER_ERROR;
use super::zone::{DnsTransport, Zone};

/// The most connections at a time; one more ends the oldest, so idle ones keep nobody out.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to send a query and read its answer, and how long a connection may be idle.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest query, in bytes.
const QUERY_MAX: u16 = 4096;

/// Answers queries until dropped.
pub async fn serve(zone: Arc<Zone>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    // In order of arrival.
    let mut handles = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("failed to accept a DNS connection: {error}");
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        if handles.len() >= CONNECTIONS_MAX {
            handles.retain(|handle: &AbortHandle| !handle.is_finished());
        }
        if handles.len() >= CONNECTIONS_MAX
            && let Some(oldest) = handles.pop_front()
        {
            oldest.abort();
        }
        let zone = zone.clone();
        handles.push_back(connections.spawn(async move {
            if let Err(error) = serve_connection(&zone, stream).await {
                tracing::debug!("a DNS connection ended: {error}");
            }
        }));
    }
}

/// Answers the queries of a connection one after the other, until it ends.
async fn serve_connection(zone: &Zone, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    // One timeout for the whole exchange: a byte now and then does not keep a connection open.
    while timeout(EXCHANGE_TIMEOUT, exchange(zone, &mut stream)).await?? {}
    Ok(())
}

/// Reads a query and answers it. False if it was the last one.
async fn exchange(zone: &Zone, stream: &mut BufReader<TcpStream>) -> io::Result<bool> {
    let length = stream.read_u16().await?;
    if length > QUERY_MAX {
        return Ok(false);
    }
    let mut query = vec![0; length.into()];
    stream.read_exact(&mut query).await?;
    let Some(answer) = zone.answer(&query, DnsTransport::Tcp) else {
        return Ok(false);
    };
    let Ok(length) = u16::try_from(answer.len()) else {
        return Ok(false);
    };
    stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat()).await?;
    Ok(true)
}
