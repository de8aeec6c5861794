//! What clients of a cluster's Spark Connect server connect to, with the token that it asks them for.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::place::Place;
use super::{Error, local, secret};
use crate::observe::{Facts, connect_state};
use crate::render::CONNECT_PORT;
use crate::render::auth::CONNECT_TOKEN;

/// Whom the address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Who is where the cluster is.
    Inside,
    /// Who has the server's port forwarded to this machine.
    Forwarded,
}

/// # Errors
/// Also if there is no such server, or no token that may be read.
pub async fn connect_url(place: &Place, from: From) -> Result<String, Error> {
    let summary = place.inventory().await?.cluster;
    if !summary.connect {
        return Err(Error::Usage {
            message: format!("cluster {} has no Spark Connect server", summary.name),
            help: "`sparkha create --connect` gives it one".into(),
        });
    }
    let mut url = match (place, from) {
        (_, From::Forwarded) => format!("sc://localhost:{CONNECT_PORT}"),
        (Place::Kubernetes(..), From::Inside) => {
            connect_state(place.namespace().as_str(), &summary, &Facts::default()).url
        }
        (Place::Local(dir), From::Inside) => connect_state(dir.namespace.as_str(), &summary, &local::pods_of(dir)?).url,
    };
    if let Some(name) = &summary.connect_secret {
        let token = secret::value(place, name, CONNECT_TOKEN).await?;
        url.push_str(&with_token(&token));
    }
    Ok(url)
}

/// The rest of a URL, as a header. Clients have a parameter of its own for a token, and send that one by TLS only, which the server does not speak.
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
    fn a_token_ends_no_parameter() {
        assert_eq!(with_token("a1Z"), "/;authorization=Bearer%20a1Z");
        assert_eq!(with_token("a;b=c %"), "/;authorization=Bearer%20a%3Bb%3Dc%20%25");
    }
}
