//! Counts ready pods from the API server's table of pods, the one that `kubectl get pods` prints: it is half as large as the pods, and takes the
//! server half the time. It comes from the server's cache and in one piece, so that its rows are counted while they arrive.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;

use futures::{AsyncBufRead, AsyncBufReadExt};
use hyper::header::{ACCEPT, HeaderValue};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::{Request, Resource};
use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Cluster, Error};
use crate::model::labels::{Component, INSTANCE, MANAGED_BY, SPARKHA};
use crate::state::overview::PodCounts;

/// With the metadata of each pod.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
/// The column with the number of ready containers and of all: `1/1`.
const READY: &str = "Ready";
/// The beginning of the rows. Within a JSON string, the quotes would be escaped.
const ROWS: &[u8] = b"\"rows\":[";

/// Pods by the namespace and name of their cluster.
type ClusterPods = HashMap<(String, String), PodCounts>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    column_definitions: Vec<TableColumn>,
}

#[derive(Deserialize)]
struct TableColumn {
    name: String,
}

#[derive(Deserialize)]
struct Row {
    cells: Vec<serde_json::Value>,
    object: RowObject,
}

#[derive(Deserialize)]
struct RowObject {
    metadata: RowMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RowMetadata {
    namespace: String,
    labels: BTreeMap<String, String>,
    deletion_timestamp: Option<IgnoredAny>,
}

impl Row {
    /// As [`crate::state::is_ready`].
    fn is_ready(&self, column: usize) -> bool {
        let containers = self.cells.get(column).and_then(|cell| cell.as_str()?.split_once('/'));
        let all_ready = containers.is_some_and(|(ready, all)| ready == all && all != "0");
        all_ready && self.object.metadata.deletion_timestamp.is_none()
    }
}

/// Counts the rows of a table that arrives in parts.
#[derive(Default)]
struct Counter {
    counts: ClusterPods,
    /// Index of the column; `None` before the rows.
    column: Option<usize>,
    /// The end of the table was read.
    complete: bool,
}

impl Counter {
    /// Counts the complete rows in the text, and returns the length of the text that was read.
    fn read(&mut self, text: &[u8]) -> serde_json::Result<usize> {
        let Some(column) = self.column else {
            let Some(at) = memmem::find(text, ROWS) else {
                return Ok(0);
            };
            let rows = at + ROWS.len();
            let header: Header = serde_json::from_slice(&[&text[..rows], b"]}"].concat())?;
            let mut columns = header.column_definitions.iter();
            let column = columns.position(|column| column.name == READY);
            self.column = Some(column.ok_or_else(|| invalid(format!("the table of pods has no column {READY}")))?);
            return Ok(rows + self.read(&text[rows..])?);
        };
        let mut read = 0;
        loop {
            let between = |byte: &&u8| **byte == b',' || byte.is_ascii_whitespace();
            read += text[read..].iter().take_while(between).count();
            let rest = &text[read..];
            if self.complete || rest.first() == Some(&b']') {
                self.complete = true;
                return Ok(text.len());
            }
            let mut rows = serde_json::Deserializer::from_slice(rest).into_iter::<Row>();
            match rows.next() {
                Some(Ok(row)) => {
                    read += rows.byte_offset();
                    self.count(row, column);
                }
                Some(Err(error)) if !error.is_eof() => return Err(error),
                Some(Err(_)) | None => return Ok(read),
            }
        }
    }

    fn count(&mut self, mut row: Row, column: usize) {
        let is_ready = row.is_ready(column);
        let RowMetadata { namespace, labels, .. } = &mut row.object.metadata;
        if let (Some(component), Some(name)) = (Component::of(labels), labels.remove(INSTANCE)) {
            let cluster = (std::mem::take(namespace), name);
            self.counts.entry(cluster).or_default().add(component, is_ready);
        }
    }
}

fn invalid(reason: String) -> serde_json::Error {
    serde::de::Error::custom(reason)
}

async fn count(body: impl AsyncBufRead) -> Result<ClusterPods, kube::Error> {
    let mut body = pin!(body);
    let mut counter = Counter::default();
    let mut text = Vec::new();
    loop {
        let part = body.fill_buf().await.map_err(kube::Error::ReadEvents)?;
        let length = part.len();
        if length == 0 {
            break;
        }
        text.extend_from_slice(part);
        body.consume_unpin(length);
        let read = counter.read(&text).map_err(kube::Error::SerdeError)?;
        text.drain(..read);
    }
    match counter.complete {
        true => Ok(counter.counts),
        false => Err(kube::Error::SerdeError(invalid(
            "the table of pods is incomplete".into(),
        ))),
    }
}

impl Cluster {
    /// The pods of each cluster: in this namespace or in all.
    pub async fn pod_counts(&self, all_namespaces: bool) -> Result<ClusterPods, Error> {
        let namespace = (!all_namespaces).then(|| self.namespace.as_str());
        let pods = Request::new(Pod::url_path(&(), namespace));
        let params = ListParams::default()
            .labels(&format!("{MANAGED_BY}={SPARKHA}"))
            .match_any();
        self.call("list pods", || async {
            let mut request = pods.list(&params).map_err(kube::Error::BuildRequest)?;
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static(TABLE));
            count(self.client.request_stream(request).await?).await
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(component: &str, ready: &str) -> serde_json::Value {
        let labels = json!({"app.kubernetes.io/component": component, "app.kubernetes.io/instance": "spark"});
        json!({"cells": ["a", ready, "Running"], "object": {"metadata": {"namespace": "ns", "labels": labels}}})
    }

    fn table(rows: &[serde_json::Value]) -> String {
        let columns = ["Name", "Ready", "Status"].map(|name| json!({"name": name, "description": "\"rows\":["}));
        // serde_json sorts keys; the API server sends the columns first.
        format!(
            r#"{{"kind":"Table","metadata":{{}},"columnDefinitions":{},"rows":{}}}"#,
            json!(columns),
            json!(rows)
        ) + "\n"
    }

    async fn counted(text: &str, part: usize) -> Result<Option<PodCounts>, String> {
        let parts = text.as_bytes().chunks(part).map(Ok::<_, std::io::Error>);
        let body = futures::TryStreamExt::into_async_read(futures::stream::iter(parts));
        let counts = count(body).await.map_err(|error| error.to_string())?;
        Ok(counts.get(&("ns".to_owned(), "spark".to_owned())).cloned())
    }

    #[tokio::test]
    async fn rows_are_counted_however_they_arrive() {
        let mut expected = PodCounts::default();
        expected.add(Component::Master, true);
        expected.add(Component::Master, false);
        expected.add(Component::Worker, false);
        let text = table(&[row("master", "1/1"), row("master", "1/2"), row("worker", "0/0")]);
        for part in 1..=text.len() {
            assert_eq!(counted(&text, part).await.unwrap().as_ref(), Some(&expected), "{part}");
        }
        assert_eq!(counted(&table(&[]), 16).await, Ok(None));
    }

    #[tokio::test]
    async fn a_broken_table_is_an_error() {
        let text = table(&[row("master", "1/1"), row("worker", "1/1")]);
        let end = text.rfind(']').unwrap();
        for broken in [
            &text[..end],
            &text[..end / 2],
            "",
            "{}",
            &text.replace("Ready", "Status"),
            &text.replace("cells", "cell"),
        ] {
            assert!(counted(broken, 64).await.is_err(), "{broken}");
        }
    }

    #[test]
    fn a_row_is_ready_as_its_pod_is() {
        let pod = |containers: &[bool], is_deleted: bool| {
            let ready = containers.iter().filter(|ready| **ready).count();
            let cells = json!(["a", format!("{ready}/{}", containers.len())]);
            let containers = containers
                .iter()
                .map(|ready| json!({"name": "c", "image": "", "imageID": "", "ready": ready, "restartCount": 0}));
            let mut metadata = json!({"name": "a", "namespace": "n"});
            if is_deleted {
                metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            let pod = json!({
                "metadata": metadata, "status": {"containerStatuses": containers.collect::<Vec<_>>()},
            });
            let row: Row = serde_json::from_value(json!({"cells": cells, "object": {"metadata": metadata}})).unwrap();
            assert_eq!(
                row.is_ready(1),
                crate::state::is_ready(&serde_json::from_value(pod).unwrap())
            );
            row.is_ready(1)
        };
        assert!(pod(&[true], false) && pod(&[true, true], false));
        assert!(!pod(&[true, false], false));
        assert!(!pod(&[], false));
        assert!(!pod(&[true], true));
    }
}
