//! How sparkha's HTTP clients are made: time-outs, no redirects, no proxies; and the URLs of servers.

use std::time::Duration;

use reqwest::{Client, ClientBuilder, Url};

/// A client that speaks HTTPS only if `tls`: an image or machine without root certificates can speak HTTP all the same.
pub fn client(connect: Duration, whole: Duration, tls: bool) -> ClientBuilder {
    // Only the first caller in a process decides, and all of ours decide the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .user_agent(concat!("sparkha/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        .timeout(whole)
        .redirect(reqwest::redirect::Policy::none())
        // A proxy would see passwords, and knows no pod.
        .no_proxy();
    match tls {
        true => client,
        false => client.tls_certs_only([]),
    }
}

/// An http or https URL of a host, without path, query, user and password.
pub fn server_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = url.path() == "/" && url.username().is_empty() && url.password().is_none() && url.query().is_none();
    (is_plain && url.has_host() && matches!(url.scheme(), "http" | "https")).then_some(url)
}
