//! A client of Vulcand's HTTP API, version 2 (`api/api.go` in Vulcand): lists are objects with one field, POST creates or overwrites, and a
//! missing object is 404. The API has no authentication and no revisions, so concurrent writes are not detected.

use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use futures::stream::{StreamExt, TryStreamExt};
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Value, json};

use crate::clients::http;
use crate::model::error_chain::root_cause;
use crate::routing::vulcand::diff::{StoredObject, StoredObjects};
use crate::routing::vulcand::{Id, JsonText};

const RETRIES: ConstantBuilder = ConstantBuilder::new()
    .with_delay(Duration::from_millis(500))
    .with_max_times(2);
/// Most concurrent requests.
const CONCURRENT: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to reach Vulcand's API at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("Vulcand's API refused {what}: {message}")]
    Rejected { what: String, message: String },
    #[error("failed to parse the response of Vulcand's API at {url}: {reason}")]
    Protocol { url: String, reason: String },
    #[error("`{url}` is not an address of Vulcand's API")]
    Address { url: String },
    #[error("failed to prepare requests to Vulcand's API")]
    Client(#[source] reqwest::Error),
}

impl Error {
    /// The remedy, if there is one.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Error::Unreachable { .. } | Error::Protocol { .. } => {
                "check --vulcand-api: Vulcand's API is at its -apiInterface and -apiPort, by default 8182"
            }
            Error::Address { .. } => "write it like http://vulcand.example:8182",
            Error::Rejected { .. } | Error::Client(_) => return None,
        };
        Some(help.into())
    }
}

/// A client of one Vulcand. Of several that share an etcd, any one suffices.
pub struct VulcandApi {
    http: Client,
    url: Url,
}

impl VulcandApi {
    pub fn new(address: &str) -> Result<Self, Error> {
        let invalid = || Error::Address {
            url: address.rsplit('@').next().unwrap_or_default().to_owned(),
        };
        let url = http::server_url(address).ok_or_else(invalid)?;
        let http = http::client(url.scheme() == "https").build().map_err(Error::Client)?;
        Ok(Self { http, url })
    }

    /// All listeners, backends, servers and frontends.
    pub async fn list(&self) -> Result<StoredObjects, Error> {
        let (listeners, backends, frontends) = futures::try_join!(
            self.list_of(&["listeners"], "Listeners", Id::Listener),
            self.list_of(&["backends"], "Backends", Id::Backend),
            self.list_of(&["frontends"], "Frontends", Id::Frontend),
        )?;
        let hosts = backends.iter().filter_map(|(id, _)| id.host());
        let lookups = hosts.map(|backend| self.servers(backend));
        let servers: Vec<_> = futures::stream::iter(lookups)
            .buffered(CONCURRENT)
            .try_collect()
            .await?;
        let all = [listeners, backends, servers.concat(), frontends];
        Ok(all.into_iter().flatten().collect())
    }

    async fn servers(&self, backend: &str) -> Result<Vec<(Id, StoredObject)>, Error> {
        let id = |id| Id::Server {
            backend: backend.to_owned(),
            id,
        };
        self.list_of(&["backends", backend, "servers"], "Servers", id).await
    }

    /// Writes one object. `ttl` applies to frontends and servers: other objects do not expire.
    pub async fn put(&self, id: &Id, value: &JsonText, ttl: Option<Duration>) -> Result<(), Error> {
        let (path, body) = upsert(id, value.parse(), ttl);
        self.request(Method::POST, &path, Some(&body)).await.map(drop)
    }

    /// Deletes one object. A missing object is no error.
    pub async fn delete(&self, id: &Id) -> Result<(), Error> {
        let path = match id {
            Id::Listener(id) => vec!["listeners", id],
            Id::Backend(id) => vec!["backends", id],
            Id::Server { backend, id } => vec!["backends", backend, "servers", id],
            Id::Frontend(id) => vec!["frontends", id],
        };
        self.request(Method::DELETE, &path, None).await.map(drop)
    }

    /// The objects of a list. A missing list is empty.
    async fn list_of(
        &self,
        path: &[&str],
        field: &str,
        id: impl Fn(String) -> Id,
    ) -> Result<Vec<(Id, StoredObject)>, Error> {
        let Some(response) = self.request(Method::GET, path, None).await? else {
            return Ok(Vec::new());
        };
        // An empty list is null.
        let list = match response.get(field) {
            Some(Value::Array(list)) => list.clone(),
            Some(Value::Null) => Vec::new(),
            _ => return Err(self.protocol(format!("the list {field} is missing"))),
        };
        let found = |value| StoredObject {
            value,
            ..StoredObject::default()
        };
        let objects = list.into_iter().map(|value| match value["Id"].as_str() {
            Some(name) => Ok((id(name.to_owned()), found(value.into()))),
            None => Err(self.protocol(format!("an object in {field} has no ID"))),
        });
        objects.collect()
    }

    /// Sends a request, with retries: any request may be sent twice. `None` on 404.
    async fn request(&self, method: Method, path: &[&str], body: Option<&Value>) -> Result<Option<Value>, Error> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().push("v2").extend(path);
        }
        let attempt = || self.request_once(&method, &url, body);
        let retried = attempt
            .retry(RETRIES)
            .when(|error| matches!(error, Error::Unreachable { .. }))
            .notify(|error, _| tracing::info!("{error}; retrying"));
        retried.await
    }

    async fn request_once(&self, method: &Method, url: &Url, body: Option<&Value>) -> Result<Option<Value>, Error> {
        let unreachable = |reason: String| Error::Unreachable {
            url: self.url.to_string(),
            reason,
        };
        let failed = |error: reqwest::Error| unreachable(root_cause(&error.without_url()));
        let mut request = self.http.request(method.clone(), url.clone());
        if let Some(body) = body {
            // Vulcand reads the body only if the content type is not a form's.
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let text = response.text().await.map_err(failed)?;
        match status {
            StatusCode::OK => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| self.protocol(error.to_string())),
            StatusCode::NOT_FOUND if *method != Method::POST => Ok(None),
            _ if http::is_gateway_error(status) => Err(unreachable(format!("HTTP {status}"))),
            _ => Err(Error::Rejected {
                what: format!("{method} {}", url.path()),
                message: http::message(status, &text),
            }),
        }
    }

    fn protocol(&self, reason: String) -> Error {
        Error::Protocol {
            url: self.url.to_string(),
            reason,
        }
    }
}

/// The path and body of the request that writes an object.
fn upsert(id: &Id, mut value: Value, ttl: Option<Duration>) -> (Vec<&str>, Value) {
    let with_id = |id: &str| {
        value["Id"] = json!(id);
        value
    };
    // In the format of Go's time.ParseDuration.
    let ttl = ttl.map_or_else(String::new, |ttl| format!("{}s", ttl.as_secs().max(1)));
    match id {
        Id::Listener(id) => (vec!["listeners"], json!({"Listener": with_id(id)})),
        Id::Backend(id) => (vec!["backends"], json!({"Backend": with_id(id)})),
        Id::Server { backend, id } => (
            vec!["backends", backend, "servers"],
            json!({"Server": with_id(id), "TTL": ttl}),
        ),
        Id::Frontend(id) => (vec!["frontends"], json!({"Frontend": with_id(id), "TTL": ttl})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_match_the_format_of_the_api() {
        let server = Id::Server {
            backend: "spark-master.ns.k8s".into(),
            id: "sparkha.kubernetes.ns".into(),
        };
        assert_eq!(
            upsert(
                &server,
                json!({"URL": "http://10.1.2.4:8080"}),
                Some(Duration::from_secs(60))
            ),
            (
                vec!["backends", "spark-master.ns.k8s", "servers"],
                json!({"Server": {"Id": "sparkha.kubernetes.ns", "URL": "http://10.1.2.4:8080"}, "TTL": "60s"})
            )
        );
        assert_eq!(
            upsert(
                &Id::Backend("b".into()),
                json!({"Type": "http"}),
                Some(Duration::from_secs(60))
            ),
            (vec!["backends"], json!({"Backend": {"Id": "b", "Type": "http"}}))
        );
    }

    #[test]
    fn an_address_is_a_plain_http_url_and_errors_hide_its_password() {
        assert!(VulcandApi::new("http://127.0.0.1:8182").is_ok());
        for invalid in ["127.0.0.1:8182", "http://vulcand:8182/v2", "ftp://vulcand"] {
            assert!(VulcandApi::new(invalid).is_err(), "{invalid}");
        }
        let error = VulcandApi::new("http://root:secret@vulcand:8182")
            .err()
            .unwrap()
            .to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
