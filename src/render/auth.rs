//! Secret `NAME-auth`: the secret with which masters, workers, executors and drivers authenticate (`spark.authenticate.secret`), and the
//! password with which masters log in to ZooKeeper (`zookeeper.password`). It is rendered with placeholders. create generates the values;
//! they exist only in the Secret, never in a manifest, inventory, argument or environment. Pods read them from files.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{KeyToPath, Secret, SecretVolumeSource};
use kube::core::DynamicObject;
use serde_json::Value;

use crate::model::labels::{Component, identity, metadata, non_empty};
use crate::spec::{Authentication, ClusterSpec, ConnectToken, Recovery};

/// Mount path of the Secret.
pub const AUTH_DIR: &str = "/etc/spark-auth";
/// Name of its volume in pods.
pub const AUTH_VOLUME: &str = "auth";
/// Key in the Secret, and the property with its value.
pub const SPARK_SECRET: &str = "spark.authenticate.secret";
/// Mount path of the certificate.
pub const TLS_DIR: &str = "/etc/spark-tls";
/// Name of its volume in pods.
pub const TLS_VOLUME: &str = "tls";
/// The certificate and its CA in one file, written when a container starts: with PEM files, Spark trusts the certificates in its own certificate file.
pub const CERTIFICATES: &str = "/tmp/certificates.pem";
/// Mount path of the masters' `password` for ZooKeeper, and of their `username` if it is not `spark`.
pub const ZOOKEEPER_AUTH_DIR: &str = "/etc/zookeeper-auth";
/// Name of its volume in pods.
pub const ZOOKEEPER_AUTH_VOLUME: &str = "zookeeper-auth";
/// Name of the volume in pods with the keys of the S3-compatible store.
pub const S3_VOLUME: &str = "s3-keys";
/// Mount path of the keys.
pub const S3_DIR: &str = "/etc/s3-keys";
/// Names of the keys in that folder and in the file.
pub const S3_KEYS: [&str; 2] = ["aws_access_key_id", "aws_secret_access_key"];
/// The script that writes the keys to a file when a container starts.
pub const S3_SCRIPT: &str = "s3.sh";
/// That file, in the format of AWS's SDKs.
pub const S3_CREDENTIALS: &str = "/tmp/s3-credentials";
/// The variable with its path.
pub const S3_CREDENTIALS_VARIABLE: &str = "AWS_SHARED_CREDENTIALS_FILE";
/// Key in the Secret of the password for managed ZooKeeper servers.
pub const ZOOKEEPER_PASSWORD: &str = "zookeeper.password";
/// Key in the Secret of the Spark Connect server's token, and the property with its value.
pub const CONNECT_TOKEN: &str = "spark.connect.authenticate.token";
/// All possible keys of the Secret that sparkha creates.
pub const KEYS: [&str; 3] = [SPARK_SECRET, ZOOKEEPER_PASSWORD, CONNECT_TOKEN];
/// Mode of mounted secrets: readable by the pod's group.
const SECRET_MODE: i32 = 0o440;
/// Placeholder of a secret that was not generated yet. Pods with it do not start.
pub const PLACEHOLDER: &str = "REPLACE-ME";

/// The Secret that sparkha creates, if any.
pub fn secret(spec: &ClusterSpec) -> Option<Secret> {
    if spec.authentication != Authentication::Own {
        return None;
    }
    let is_managed = matches!(spec.recovery, Recovery::ManagedZooKeeper(_));
    let keys = KEYS.into_iter().filter(|&key| match key {
        ZOOKEEPER_PASSWORD => is_managed,
        CONNECT_TOKEN => needs_token(spec),
        _ => true,
    });
    let placeholders = keys.map(|key| (key.to_owned(), PLACEHOLDER.to_owned()));
    let mut metadata = metadata(spec, spec.name.auth(), Component::Cluster);
    // create never changes it later, so it contains nothing that changes.
    metadata.labels = non_empty(identity(spec, Component::Cluster));
    Some(Secret {
        metadata,
        type_: Some("Opaque".into()),
        string_data: Some(placeholders.collect()),
        ..Default::default()
    })
}

/// Name of the Secret that pods mount; `None` without authentication.
pub fn secret_name(spec: &ClusterSpec) -> Option<String> {
    match &spec.authentication {
        Authentication::Off => None,
        Authentication::Own => Some(spec.name.auth()),
        Authentication::Secret { name } => Some(name.clone()),
    }
}

/// Whether clients of the Spark Connect server need the Secret's token.
fn needs_token(spec: &ClusterSpec) -> bool {
    let connect = spec.connect.as_ref();
    connect.is_some_and(|connect| connect.token == ConnectToken::OfCluster)
}

/// Name of the Secret with the token that clients of the Spark Connect server need; `None` if they need none.
pub fn connect_secret_name(spec: &ClusterSpec) -> Option<String> {
    secret_name(spec).filter(|_| needs_token(spec))
}

/// The mounted secret of daemons and drivers: only this key of the cluster's Secret. The Spark Connect server also gets its token.
pub fn spark_secret(spec: &ClusterSpec, component: Component) -> Option<SecretVolumeSource> {
    let has_token = component == Component::Connect && needs_token(spec);
    let token = has_token.then_some(CONNECT_TOKEN);
    Some(keys_of(secret_name(spec)?, [SPARK_SECRET].into_iter().chain(token)))
}

/// The certificate that all components share, its key and the trusted CA; `None` without TLS.
pub fn certificate(spec: &ClusterSpec) -> Option<SecretVolumeSource> {
    Some(keys_of(spec.tls.clone()?, ["tls.crt", "tls.key", "ca.crt"]))
}

/// A volume of a Secret with only these keys, each under its own name.
fn keys_of(secret: String, keys: impl IntoIterator<Item = &'static str>) -> SecretVolumeSource {
    let items = keys.into_iter().map(|key| item(key, key));
    secret_volume(secret, Some(items.collect()))
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath {
        key: key.into(),
        path: path.into(),
        ..Default::default()
    }
}

/// `items`: the mounted keys; `None` for all.
fn secret_volume(secret: String, items: Option<Vec<KeyToPath>>) -> SecretVolumeSource {
    SecretVolumeSource {
        secret_name: Some(secret),
        items,
        default_mode: Some(SECRET_MODE),
        ..Default::default()
    }
}

/// The masters' login to ZooKeeper, mounted by masters and managed ZooKeeper servers; `None` without a login.
pub fn zookeeper_secret(spec: &ClusterSpec) -> Option<SecretVolumeSource> {
    match &spec.recovery {
        Recovery::FileSystem { .. } => None,
        Recovery::ManagedZooKeeper(_) => {
            let password = item(ZOOKEEPER_PASSWORD, "password");
            Some(secret_volume(secret_name(spec)?, Some(vec![password])))
        }
        Recovery::ExternalZooKeeper(external) => Some(secret_volume(external.secret.clone()?, None)),
    }
}

/// The keys of the S3-compatible store for components that read and write there; `None` without such keys.
pub fn s3_secret(spec: &ClusterSpec, component: Component) -> Option<SecretVolumeSource> {
    use Component::{Connect, Driver, History, Worker};
    let secret = spec.s3.as_ref()?.secret.as_ref()?;
    let keys = [&secret.access_key, &secret.secret_key];
    let items = keys.into_iter().zip(S3_KEYS).map(|(key, path)| item(key, path));
    matches!(component, Connect | Driver | History | Worker)
        .then(|| secret_volume(secret.name.clone(), Some(items.collect())))
}

/// The keys of an existing Secret, and their values.
pub fn keys(live: &DynamicObject) -> BTreeMap<String, ByteString> {
    serde_json::from_value(live.data["data"].clone()).unwrap_or_default()
}

/// Keys of a rendered Secret without a value in the existing one.
pub fn missing(rendered: &Value, live: Option<&DynamicObject>) -> Vec<String> {
    let there = live.map(keys).unwrap_or_default();
    let is_there = |key: &String| there.get(key).is_some_and(|value| is_made(&value.0));
    let keys = rendered["stringData"]
        .as_object()
        .into_iter()
        .flat_map(|keys| keys.keys());
    keys.filter(|key| !is_there(key)).cloned().collect()
}

/// Whether this is a secret and not the placeholder.
fn is_made(value: &[u8]) -> bool {
    !value.is_empty() && value != PLACEHOLDER.as_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::config::config_map;
    use crate::render::workloads::stateful_sets;
    use crate::spec::resolve::{Source, resolve};

    #[test]
    fn each_component_mounts_only_the_keys_that_it_needs() {
        let text = "history: true\nconnect: true\n";
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let keys = |volume: &k8s_openapi::api::core::v1::Volume| {
            let secret = volume.secret.clone()?;
            assert_eq!(secret.secret_name.as_deref(), Some("spark-auth"));
            // Without items all keys would be mounted.
            let keys = secret.items.unwrap().into_iter().map(|item| item.key);
            Some(keys.collect::<Vec<_>>().join(" "))
        };
        let mut has: Vec<_> = stateful_sets(&spec, &config_map(&spec))
            .iter()
            .map(|set| {
                let volumes = set.spec.clone().template.spec.unwrap().volumes.unwrap();
                let keys: Vec<_> = volumes.iter().filter_map(keys).collect();
                format!("{}: {}", set.metadata.name.clone().unwrap(), keys.join(" "))
            })
            .collect();
        has.sort();
        assert_eq!(
            has,
            [
                "spark-connect: spark.authenticate.secret spark.connect.authenticate.token",
                "spark-history: ",
                "spark-master: spark.authenticate.secret zookeeper.password",
                "spark-worker: spark.authenticate.secret",
                "spark-zookeeper: zookeeper.password",
            ]
        );
    }

    #[test]
    fn a_secret_is_generated_once() {
        let rendered = json!({"stringData": {"a": PLACEHOLDER, "b": PLACEHOLDER, "c": PLACEHOLDER}});
        assert_eq!(missing(&rendered, None), ["a", "b", "c"]);
        let data = |a: &str, b: &str| json!({"a": ByteString(a.into()), "b": ByteString(b.into())});
        let live = |data: Value| serde_json::from_value(json!({"metadata": {}, "data": data})).unwrap();
        assert_eq!(missing(&rendered, Some(&live(data("x", "")))), ["b", "c"]);
        // Applied with kubectl, with placeholders.
        assert_eq!(missing(&rendered, Some(&live(data(PLACEHOLDER, "x")))), ["a", "c"]);
    }
}
