//! Builds sparkha's HTTP clients (time-outs, no redirects, no proxies) and parses the URLs of servers.

use std::time::Duration;

use reqwest::{Client, ClientBuilder, StatusCode, Url};
use serde_json::Value;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of a whole request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client builder. Without `tls` it loads no root certificates: an image or machine may have none, and plain HTTP needs none.
pub fn client(tls: bool) -> ClientBuilder {
    // Only the first call in a process counts, and all calls install the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .user_agent(concat!("sparkha/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        // A proxy would see passwords, and cannot reach pods.
        .no_proxy();
    match tls {
        true => client,
        false => client.tls_certs_only([]),
    }
}

/// Parses an http or https URL of a host. `None` if it has a path, query, user or password.
pub fn server_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = url.path() == "/" && url.username().is_empty() && url.password().is_none() && url.query().is_none();
    (is_plain && url.has_host() && matches!(url.scheme(), "http" | "https")).then_some(url)
}

/// Whether a gateway could not reach the server behind it.
pub fn is_gateway_error(status: StatusCode) -> bool {
    [
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ]
    .contains(&status)
}

/// The field `message` of a failed response, or its status.
pub fn message(status: StatusCode, response: &str) -> String {
    let response = serde_json::from_str::<Value>(response).unwrap_or_default();
    response["message"]
        .as_str()
        .map_or_else(|| format!("HTTP {status}"), str::to_owned)
}
