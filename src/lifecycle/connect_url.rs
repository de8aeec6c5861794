//! The URL of a cluster's Spark Connect server for clients, with the token that the server requires.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::lifecycle::inventory::inventory;
use crate::lifecycle::{Error, secret};
use crate::model::ports::CONNECT_PORT;
use crate::platform::{Backend, Platform};
use crate::render::auth::CONNECT_TOKEN;
use crate::state::{Facts, connect_state};

/// Where the client runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// In the same network as the cluster.
    Inside,
    /// On this machine, through a port-forward.
    Forwarded,
}

/// Returns `None` if the cluster has no Spark Connect server.
///
/// # Errors
/// Fails if the token cannot be read.
pub async fn connect_url(platform: &dyn Platform, client: Client) -> Result<Option<String>, Error> {
    let summary = inventory(platform).await?.cluster;
    if !summary.connect {
        return Ok(None);
    }
    let facts = match platform.backend() {
        // The server's address is its Service's.
        Backend::Kubernetes(_) => Facts::default(),
        Backend::Local(_) => Facts {
            pods: platform.pods().await?,
            here: true,
            ..Facts::default()
        },
    };
    let mut url = match client {
        Client::Forwarded => format!("sc://localhost:{CONNECT_PORT}"),
        Client::Inside => connect_state(platform.namespace().as_str(), &summary, &facts).url,
    };
    if let Some(name) = &summary.connect_secret {
        let token = secret::value(platform, name, CONNECT_TOKEN).await?;
        url.push_str(&with_token(&token));
    }
    Ok(Some(url))
}

/// The token as URL parameters. It is a header, because clients refuse to send their own `token` parameter without TLS,
/// which the server does not have.
fn with_token(token: &str) -> String {
    format!(
        "/;authorization=Bearer%20{}",
        utf8_percent_encode(token, NON_ALPHANUMERIC)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_percent_encoded() {
        assert_eq!(with_token("a1Z"), "/;authorization=Bearer%20a1Z");
        assert_eq!(with_token("a;b=c %"), "/;authorization=Bearer%20a%3Bb%3Dc%20%25");
    }
}
