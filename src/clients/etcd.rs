//! A client of etcd's JSON gateway, which servers since 3.4 offer beside gRPC. Keys and values are base64, and 64-bit numbers are strings
//! (etcd's `rpc.proto` lists all fields). The client does not know what the keys mean.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Client, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::clients::http;
use crate::model::error_chain::root_cause;

/// Most operations in one transaction: etcd's default of `--max-txn-ops`.
pub const MAX_OPERATIONS: usize = 128;
/// Keys in one response, and the next ones are requested of the same revision.
const PAGE: usize = 1000;
/// How often all endpoints are tried, and the delay between two rounds.
const ROUNDS: u32 = 3;
const RETRY_DELAY: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to reach etcd: {}", reasons.join("; "))]
    Unreachable { reasons: Vec<String> },
    #[error("etcd at {endpoint} denied access: {message}")]
    NotAllowed { endpoint: String, message: String },
    #[error("etcd at {endpoint} rejected the request: {message}")]
    Rejected { endpoint: String, message: String },
    #[error("failed to parse the response of etcd at {endpoint}: {reason}")]
    Protocol { endpoint: String, reason: String },
    #[error("`{endpoint}` is not an etcd endpoint")]
    Endpoint { endpoint: String },
    #[error("failed to read {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("failed to use the certificates for etcd")]
    Tls(#[source] reqwest::Error),
}

impl Error {
    /// The remedy, if there is one.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Error::Unreachable { .. } => {
                "check the addresses of --etcd, and for https:// also --etcd-ca, --etcd-cert and --etcd-key"
            }
            Error::NotAllowed { .. } => {
                "pass --etcd-user, with the password in SPARKHA_ETCD_PASSWORD or --etcd-password-file; \
                 the user needs a role with read and write permission below --etcd-root"
            }
            Error::Endpoint { .. } => "write it like etcd.example:2379 or https://etcd.example:2379",
            Error::Tls(_) => "--etcd-ca, --etcd-cert and --etcd-key are PEM files",
            Error::Protocol { .. } => "sparkha needs the client port of etcd 3.4 or newer",
            Error::Rejected { .. } | Error::File { .. } => return None,
        };
        Some(help.into())
    }

    /// Whether the request failed because its lease no longer exists.
    pub fn is_lease_gone(&self) -> bool {
        matches!(self, Error::Rejected { message, .. } if message.contains("requested lease not found"))
    }
}

#[derive(Clone)]
pub struct EtcdLogin {
    pub user: String,
    pub password: String,
}

#[derive(Clone, Default)]
pub struct EtcdOptions {
    /// `host:port` or URLs, tried in turn.
    pub endpoints: Vec<String>,
    /// PEM files. With any of them, endpoints without a scheme use https.
    pub ca: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub login: Option<EtcdLogin>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct EtcdKeyValue {
    pub key: String,
    pub value: Vec<u8>,
    /// The revision of the key's last write.
    pub revision: i64,
    /// The key's lease; 0 without one.
    pub lease: i64,
}

/// A write to a key, on condition that the key has not changed since it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyWrite {
    pub key: String,
    /// `None` deletes the key.
    pub value: Option<String>,
    /// The key's new lease; 0 removes it.
    pub lease: i64,
    /// The key's revision when it was read; 0 if it did not exist.
    pub expected_revision: i64,
}

/// A client. It connects on the first request.
pub struct Etcd {
    http: Client,
    endpoints: Vec<Url>,
    /// The index of the endpoint that answered last.
    current: usize,
    login: Option<EtcdLogin>,
    token: Option<String>,
}

/// Why a request failed.
enum RequestFailure {
    /// Another endpoint may succeed, or the same one later.
    Transient(String),
    /// The token is no longer valid.
    Token(Error),
    Final(Error),
}

impl Etcd {
    pub fn new(options: EtcdOptions) -> Result<Self, Error> {
        let tls = options.ca.is_some() || options.certificate.is_some();
        let endpoints = options.endpoints.iter().map(|text| endpoint(text, tls));
        let endpoints: Vec<_> = endpoints.collect::<Result<_, _>>()?;
        Ok(Self {
            http: client(&options, &endpoints)?,
            endpoints,
            current: 0,
            login: options.login,
            token: None,
        })
    }

    /// All keys with this prefix, in order. Keys that are not UTF-8 are skipped.
    pub async fn range(&mut self, prefix: &str) -> Result<Vec<EtcdKeyValue>, Error> {
        let mut end = prefix.as_bytes().to_vec();
        // The end of the range: the last byte of a prefix is always below 0xff.
        if let Some(last) = end.last_mut() {
            *last = last.saturating_add(1);
        }
        let mut body = json!({"key": encode(prefix), "range_end": encode(end), "limit": PAGE.to_string()});
        let mut found = Vec::new();
        loop {
            let RangeResponse { header, kvs, more } = self.request("kv/range", &body).await?;
            let next = kvs.last().filter(|_| more).and_then(|last| decode(&last.key));
            found.extend(kvs.into_iter().filter_map(|kv| {
                Some(EtcdKeyValue {
                    key: String::from_utf8(decode(&kv.key)?).ok()?,
                    value: decode(&kv.value)?,
                    revision: kv.mod_revision,
                    lease: kv.lease,
                })
            }));
            let Some(mut next) = next else { return Ok(found) };
            next.push(0);
            body["key"] = encode(next).into();
            body["revision"] = header.revision.to_string().into();
        }
    }

    /// Performs all writes in this order, or none: `false` if one of the keys has changed. At most [`MAX_OPERATIONS`] writes, with no key twice.
    pub async fn write(&mut self, writes: &[KeyWrite]) -> Result<bool, Error> {
        let response: TransactionResponse = self.request("kv/txn", &transaction(writes)).await?;
        Ok(response.succeeded)
    }

    /// Grants a lease and returns its ID. etcd may choose a longer TTL than requested.
    pub async fn grant(&mut self, ttl: Duration) -> Result<i64, Error> {
        let seconds = ttl.as_secs().max(1).to_string();
        let response: LeaseResponse = self.request("lease/grant", &json!({"TTL": seconds})).await?;
        Ok(response.id)
    }

    /// Renews a lease and returns its TTL; `None` if it no longer exists.
    pub async fn keep_alive(&mut self, lease: i64) -> Result<Option<Duration>, Error> {
        let response: KeepAliveResponse = self
            .request("lease/keepalive", &json!({"ID": lease.to_string()}))
            .await?;
        Ok(u64::try_from(response.result.ttl)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs))
    }

    /// Sends a request to one endpoint after the other, and retries transient errors after a delay. A transaction may be sent twice: the second
    /// then fails because the first has changed its keys.
    async fn request<T: DeserializeOwned>(&mut self, path: &str, body: &Value) -> Result<T, Error> {
        let mut reasons = BTreeSet::new();
        let mut is_new_token = false;
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            for _ in 0..self.endpoints.len() {
                let mut outcome = self.request_with_token(path, body, &mut is_new_token).await;
                // Simple tokens expire after five minutes, and with the server that issued them.
                if matches!(outcome, Err(RequestFailure::Token(_))) && !is_new_token {
                    self.token = None;
                    outcome = self.request_with_token(path, body, &mut is_new_token).await;
                }
                let reason = match outcome {
                    Ok(response) => return Ok(response),
                    Err(RequestFailure::Final(error) | RequestFailure::Token(error)) => return Err(error),
                    Err(RequestFailure::Transient(reason)) => reason,
                };
                tracing::info!("{reason}");
                reasons.insert(reason);
                self.current = (self.current + 1) % self.endpoints.len();
            }
        }
        Err(Error::Unreachable {
            reasons: reasons.into_iter().collect(),
        })
    }

    async fn request_with_token<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &Value,
        is_new: &mut bool,
    ) -> Result<T, RequestFailure> {
        if let (Some(login), None) = (&self.login, &self.token) {
            let login = json!({"name": login.user, "password": login.password});
            let response: Value = self.send("auth/authenticate", &login).await?;
            self.token = response["token"].as_str().map(str::to_owned);
            *is_new = true;
        }
        self.send(path, body).await
    }

    async fn send<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, RequestFailure> {
        let endpoint = &self.endpoints[self.current];
        let name = endpoint.origin().ascii_serialization();
        let url = endpoint
            .join(&format!("v3/{path}"))
            .map_err(|_| RequestFailure::Final(Error::Endpoint { endpoint: name.clone() }))?;
        let mut request = self.http.post(url).body(body.to_string());
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        let transient =
            |error: reqwest::Error| RequestFailure::Transient(format!("{name}: {}", root_cause(&error.without_url())));
        let response = request.send().await.map_err(transient)?;
        let status = response.status();
        let text = response.text().await.map_err(transient)?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| {
                RequestFailure::Final(Error::Protocol {
                    endpoint: name,
                    reason: error.to_string(),
                })
            });
        }
        // 3.4 sends `error` and `message`, later versions `message` alone.
        Err(failure(status, name, http::message(status, &text)))
    }
}

/// Classifies a failed response. Authentication failures have code 400 as often as 401 and 403.
fn failure(status: StatusCode, endpoint: String, message: String) -> RequestFailure {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["invalid auth token", "revision of auth store is old"]) {
        return RequestFailure::Token(Error::NotAllowed { endpoint, message });
    }
    let is_transient = match status {
        // A full database is not transient, although it has the code of too many requests.
        StatusCode::TOO_MANY_REQUESTS => !says(&["space exceeded"]),
        _ => http::is_gateway_error(status),
    };
    let is_denied = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status)
        || says(&["user name is empty", "authentication failed"]);
    match is_transient {
        true => RequestFailure::Transient(format!("{endpoint}: {message}")),
        false if is_denied => RequestFailure::Final(Error::NotAllowed { endpoint, message }),
        false => RequestFailure::Final(Error::Rejected { endpoint, message }),
    }
}

/// The body of a transaction that succeeds only if no key has changed.
fn transaction(writes: &[KeyWrite]) -> Value {
    let compare: Vec<_> = writes
        .iter()
        .map(|write| {
            json!({
                "key": encode(&write.key), "target": "MOD", "result": "EQUAL",
                "mod_revision": write.expected_revision.to_string(),
            })
        })
        .collect();
    let success: Vec<_> = writes
        .iter()
        .map(|write| match &write.value {
            Some(value) => json!({"request_put": {
                "key": encode(&write.key), "value": encode(value), "lease": write.lease.to_string(),
            }}),
            None => json!({"request_delete_range": {"key": encode(&write.key)}}),
        })
        .collect();
    json!({"compare": compare, "success": success})
}

/// Parses `host:port`, or a URL without path, user and password.
fn endpoint(text: &str, tls: bool) -> Result<Url, Error> {
    // The error leaves out what may be a password.
    let wrong = || Error::Endpoint {
        endpoint: text.rsplit('@').next().unwrap_or_default().to_owned(),
    };
    let full = match (text.contains("://"), tls) {
        (true, _) => text.to_owned(),
        (false, true) => format!("https://{text}"),
        (false, false) => format!("http://{text}"),
    };
    http::server_url(&full).ok_or_else(wrong)
}

fn client(options: &EtcdOptions, endpoints: &[Url]) -> Result<Client, Error> {
    let tls = endpoints.iter().any(|url| url.scheme() == "https");
    let mut builder = http::client(tls);
    if let Some(path) = &options.ca {
        let certificates = reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(Error::Tls)?;
        builder = builder.tls_certs_only(certificates);
    }
    if let (Some(certificate), Some(key)) = (&options.certificate, &options.key) {
        let mut pem = read(certificate)?;
        pem.push(b'\n');
        pem.extend(read(key)?);
        builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(Error::Tls)?);
    }
    builder.build().map_err(Error::Tls)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

/// etcd omits empty and zero fields.
#[derive(Deserialize)]
struct RangeResponse {
    header: ResponseHeader,
    #[serde(default)]
    kvs: Vec<Kv>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct ResponseHeader {
    #[serde(default, deserialize_with = "number")]
    revision: i64,
}

#[derive(Deserialize)]
struct Kv {
    key: String,
    #[serde(default)]
    value: String,
    #[serde(deserialize_with = "number")]
    mod_revision: i64,
    #[serde(default, deserialize_with = "number")]
    lease: i64,
}

#[derive(Deserialize)]
struct TransactionResponse {
    #[serde(default)]
    succeeded: bool,
}

#[derive(Deserialize)]
struct LeaseResponse {
    #[serde(rename = "ID", deserialize_with = "number")]
    id: i64,
}

#[derive(Deserialize)]
struct KeepAliveResponse {
    result: LeaseTtl,
}

#[derive(Deserialize)]
struct LeaseTtl {
    #[serde(rename = "TTL", default, deserialize_with = "number")]
    ttl: i64,
}

/// Deserializes a 64-bit number of protobuf's JSON.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_compares_the_revision_of_every_key() {
        let writes = [
            KeyWrite {
                key: "/v/a".into(),
                value: Some("x".into()),
                lease: 7,
                expected_revision: 0,
            },
            KeyWrite {
                key: "/v/b".into(),
                value: None,
                lease: 0,
                expected_revision: 12,
            },
        ];
        assert_eq!(
            transaction(&writes),
            json!({
                "compare": [
                    {"key": "L3YvYQ==", "target": "MOD", "result": "EQUAL", "mod_revision": "0"},
                    {"key": "L3YvYg==", "target": "MOD", "result": "EQUAL", "mod_revision": "12"},
                ],
                "success": [
                    {"request_put": {"key": "L3YvYQ==", "value": "eA==", "lease": "7"}},
                    {"request_delete_range": {"key": "L3YvYg=="}},
                ],
            })
        );
    }

    #[test]
    fn an_endpoint_is_a_host_and_port_or_a_plain_url() {
        let url = |text: &str, tls| endpoint(text, tls).map(String::from).map_err(|error| error.to_string());
        assert_eq!(url("etcd:2379", false), Ok("http://etcd:2379/".into()));
        assert_eq!(url("[::1]:2379", true), Ok("https://[::1]:2379/".into()));
        assert_eq!(url("http://etcd:2379", true), Ok("http://etcd:2379/".into()));
        for wrong in ["", "etcd:2379/path", "ftp://etcd", "http://"] {
            assert!(url(wrong, false).is_err(), "{wrong}");
        }
        assert_eq!(
            url("http://root:secret@etcd:2379", false),
            Err("`etcd:2379` is not an etcd endpoint".into()),
            "passwords in arguments are not repeated"
        );
    }

    #[test]
    fn failures_are_classified_by_code_and_message() {
        let kind = |status, message: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            match failure(status, "etcd".into(), message.into()) {
                RequestFailure::Transient(_) => "transient",
                RequestFailure::Token(_) => "token",
                RequestFailure::Final(Error::NotAllowed { .. }) => "not allowed",
                RequestFailure::Final(_) => "final",
            }
        };
        // Codes and messages of etcd 3.4.23.
        assert_eq!(kind(401, "etcdserver: invalid auth token"), "token");
        assert_eq!(kind(400, "etcdserver: user name is empty"), "not allowed");
        assert_eq!(
            kind(400, "etcdserver: authentication failed, invalid user ID or password"),
            "not allowed"
        );
        assert_eq!(kind(403, "etcdserver: permission denied"), "not allowed");
        assert_eq!(kind(412, "etcdserver: authentication is not enabled"), "final");
        assert_eq!(kind(503, "etcdserver: no leader"), "transient");
        assert_eq!(kind(429, "etcdserver: too many requests"), "transient");
        assert_eq!(kind(429, "etcdserver: mvcc: database space exceeded"), "final");
    }
}
