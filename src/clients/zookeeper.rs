//! A client of ZooKeeper: queries whether a server is in a quorum, connects to external ensembles, and reads, writes and deletes a cluster's
//! znodes.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use zookeeper_client as zk;

use crate::model::reports::{ZooKeeperMode, ZooKeeperReport};

/// A request to a server or an ensemble failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to query the ZooKeeper server")]
    Io(#[from] std::io::Error),
    #[error("the ZooKeeper server is not in a quorum")]
    NotServing,
    #[error("failed to connect to ZooKeeper at {servers}: {reason}")]
    Connect { servers: String, reason: String },
    #[error("failed to {action}")]
    Request {
        action: String,
        #[source]
        source: zk::Error,
    },
}

/// How long sparkha's sessions last without a heartbeat.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// Queries a server over an open stream, with the four-letter word `srvr`.
pub async fn query(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<ZooKeeperReport, Error> {
    stream.write_all(b"srvr").await?;
    let mut answer = String::new();
    // The response is shorter than 1 KiB, and the server then closes the connection. Through a forwarded port containerd reports that a second
    // later, so reading stops at the mode: it comes after all other values of interest.
    let mut lines = BufReader::new(stream.take(64 * 1024));
    while lines.read_line(&mut answer).await? > 0 {
        if let Some(server) = parse(&answer) {
            return Ok(server);
        }
    }
    Err(Error::NotServing)
}

fn parse(srvr: &str) -> Option<ZooKeeperReport> {
    let value = |name: &str| Some(srvr.lines().find_map(|line| line.strip_prefix(name))?.trim());
    Some(ZooKeeperReport {
        mode: match value("Mode: ")? {
            "leader" => ZooKeeperMode::Leader,
            "follower" => ZooKeeperMode::Follower,
            "observer" => ZooKeeperMode::Observer,
            "standalone" => ZooKeeperMode::Standalone,
            _ => return None,
        },
        outstanding: value("Outstanding: ").and_then(|text| text.parse().ok()).unwrap_or(0),
        zxid: value("Zxid: 0x")
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .unwrap_or(0),
        version: value("Zookeeper version: ").and_then(version),
    })
}

/// `3.9.5` of `3.9.5-1`.
fn version(text: &str) -> Option<[u32; 3]> {
    let mut numbers = text.split(['-', ',']).next()?.split('.').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some([next()?, next()?, next()?])
}

/// Credentials for an ensemble, for SASL's DIGEST-MD5.
#[derive(Clone)]
pub struct ZooKeeperLogin {
    pub username: String,
    pub password: String,
}

/// Connects to an ensemble (`host:port,…`) within a bounded time, and logs in if there is a login.
pub async fn connect(servers: &str, login: Option<&ZooKeeperLogin>, within: Duration) -> Result<zk::Client, Error> {
    let failed = |reason: String| Error::Connect {
        servers: servers.to_owned(),
        reason,
    };
    let mut connector = zk::Client::connector()
        .with_session_timeout(SESSION_TIMEOUT)
        .with_connection_timeout(within.min(Duration::from_secs(3)));
    if let Some(ZooKeeperLogin { username, password }) = login {
        connector = connector.with_sasl(zk::SaslOptions::digest_md5(username.clone(), password.clone()));
    }
    match tokio::time::timeout(within, connector.connect(servers)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", within.as_secs()))),
    }
}

/// A znode's data and version; `None` if it does not exist.
pub async fn read(client: &zk::Client, path: &str) -> Result<Option<(Vec<u8>, i32)>, Error> {
    let found = unless(&[zk::Error::NoNode], client.get_data(path).await).map_err(failed("read", path))?;
    Ok(found.map(|(data, stat)| (data, stat.version)))
}

/// Whether a znode has children. A missing znode has none.
pub async fn has_children(client: &zk::Client, path: &str) -> Result<bool, Error> {
    Ok(!children(client, path).await?.is_empty())
}

/// Names of a znode's children. A missing znode has none.
async fn children(client: &zk::Client, path: &str) -> Result<Vec<String>, Error> {
    let found = unless(&[zk::Error::NoNode], client.list_children(path).await);
    Ok(found.map_err(failed("list", path))?.unwrap_or_default())
}

/// Creates a znode with this data, accessible to `login` only if there is one, and its ancestors, accessible to everyone. False if it already
/// exists.
pub async fn create(
    client: &zk::Client,
    path: &str,
    data: &[u8],
    login: Option<&ZooKeeperLogin>,
) -> Result<bool, Error> {
    let all = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
    if let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
        client.mkdir(parent, &all).await.map_err(failed("create", parent))?;
    }
    let own = login.map(|login| {
        [zk::Acl::new(
            zk::Permission::ALL,
            zk::AuthId::new("sasl", &login.username),
        )]
    });
    let options = match &own {
        Some(own) => zk::CreateMode::Persistent.with_acls(zk::Acls::new(own)),
        None => all,
    };
    let created = unless(&[zk::Error::NodeExists], client.create(path, data, &options).await);
    Ok(created.map_err(failed("create", path))?.is_some())
}

/// Replaces a znode's data if it still has this version. False if it does not.
pub async fn write(client: &zk::Client, path: &str, data: &[u8], version: i32) -> Result<bool, Error> {
    let changed = [zk::Error::BadVersion, zk::Error::NoNode];
    let written = unless(&changed, client.set_data(path, data, Some(version)).await);
    Ok(written.map_err(failed("write", path))?.is_some())
}

/// The result of a request; `None` if it failed with one of the expected errors.
fn unless<T>(expected: &[zk::Error], outcome: Result<T, zk::Error>) -> Result<Option<T>, zk::Error> {
    match outcome {
        Err(error) if expected.contains(&error) => Ok(None),
        outcome => outcome.map(Some),
    }
}

fn failed(verb: &'static str, path: &str) -> impl FnOnce(zk::Error) -> Error {
    let action = format!("{verb} znode {path}");
    move |source| Error::Request { action, source }
}

/// Deletes a znode with its subtree, and then its empty ancestors below `root`. Returns the number of deleted znodes. A missing znode is no
/// error.
pub async fn remove_tree(client: &zk::Client, path: &str, root: &str) -> Result<usize, Error> {
    let mut removed = 0;
    // Parents come before children, and are deleted in reverse order.
    let mut paths = vec![path.to_owned()];
    let mut next = 0;
    while let Some(parent) = paths.get(next).cloned() {
        next += 1;
        let children = children(client, &parent).await?;
        paths.extend(children.iter().map(|child| format!("{parent}/{child}")));
    }
    for path in paths.iter().rev() {
        removed += usize::from(delete(client, path, &[zk::Error::NoNode]).await?);
    }
    let still_used = [zk::Error::NotEmpty, zk::Error::NoNode];
    let mut ancestor = path;
    while let Some((parent, _)) = ancestor.rsplit_once('/') {
        if parent.len() <= root.len() || !delete(client, parent, &still_used).await? {
            break;
        }
        removed += 1;
        ancestor = parent;
    }
    Ok(removed)
}

/// False if it fails with one of the expected errors.
async fn delete(client: &zk::Client, path: &str, expected: &[zk::Error]) -> Result<bool, Error> {
    let deleted = unless(expected, client.delete(path, None).await);
    Ok(deleted.map_err(failed("delete", path))?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "Zookeeper version: 3.9.5-1\nLatency min/avg/max: 0/0.0/0\nReceived: 6\nSent: 5\nConnections: 1\n\
        Outstanding: 2\nZxid: 0x30000001f\nMode: follower\nNode count: 5\n";
    const SERVER: ZooKeeperReport = ZooKeeperReport {
        mode: ZooKeeperMode::Follower,
        outstanding: 2,
        zxid: 0x3_0000_001f,
        version: Some([3, 9, 5]),
    };

    /// The result of a query whose response comes in two parts, from a server that then closes the connection or keeps it open.
    async fn query_in_parts(parts: (&str, &str), closes: bool) -> Result<ZooKeeperReport, Error> {
        let (here, mut there) = tokio::io::duplex(1024);
        let answered = async {
            let mut word = [0; 4];
            there.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"srvr");
            there.write_all(parts.0.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
            // The client may have closed the connection.
            let _ = there.write_all(parts.1.as_bytes()).await;
            (!closes).then_some(there)
        };
        let (server, _open) = tokio::join!(query(here), answered);
        server
    }

    #[tokio::test]
    async fn a_server_in_a_quorum_reports_its_mode() {
        for at in 0..=ANSWER.len() {
            assert_eq!(query_in_parts(ANSWER.split_at(at), true).await.unwrap(), SERVER, "{at}");
        }
        let other = ("This ZooKeeper instance is not currently serving requests\n", "");
        assert!(matches!(query_in_parts(other, true).await, Err(Error::NotServing)));
    }

    /// Through a forwarded port the client learns of the end much later.
    #[tokio::test]
    async fn a_query_does_not_wait_for_the_end_of_the_connection() {
        assert_eq!(query_in_parts((ANSWER, ""), false).await.unwrap(), SERVER);
    }
}
