//! Creates secret values once and keeps them: in a Secret, or on the local platform in files that only the user can
//! read.

use std::io;

use data_encoding::HEXLOWER;
use k8s_openapi::ByteString;
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use crate::lifecycle::place::Place;
use crate::lifecycle::{Error, local};
use crate::model::kind::Kind;
use crate::platform::kubernetes::Cluster;
use crate::platform::local::store::ClusterDir;
use crate::platform::local::volumes::secret_folder;
use crate::render::Resource;
use crate::render::auth::{KEYS, keys, missing};

/// Creates the missing keys of a rendered Secret and keeps the others.
pub async fn make(cluster: &Cluster, secret: &Resource, live: Option<&DynamicObject>) -> Result<(), Error> {
    let mut data = Map::new();
    for key in missing(&secret.object, live) {
        data.insert(key, json!(ByteString(random()?.into_bytes())));
    }
    if live.is_some() {
        cluster
            .merge(Kind::Secret, &secret.name, &json!({"data": data}))
            .await?;
        return Ok(());
    }
    let mut object = secret.object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("stringData");
        fields.insert("data".into(), Value::Object(data));
    }
    cluster.apply(Kind::Secret, &secret.name, &object, false).await?;
    Ok(())
}

/// The same on the local platform, one file per key.
pub fn make_local(dir: &ClusterDir, secret: &Resource, live: Option<&DynamicObject>) -> Result<(), Error> {
    for key in missing(&secret.object, live) {
        dir.write_secret(&secret.name, &key, random()?.as_bytes())?;
    }
    Ok(())
}

/// Replaces the values of all keys of a Secret that sparkha generates.
pub async fn replace(cluster: &Cluster, name: &str) -> Result<(), Error> {
    let live = cluster.get(Kind::Secret, name).await?;
    let mut data = Map::new();
    for key in KEYS {
        if live.as_ref().is_some_and(|live| live.data["data"][key].is_string()) {
            data.insert(key.to_owned(), json!(ByteString(random()?.into_bytes())));
        }
    }
    cluster.merge(Kind::Secret, name, &json!({"data": data})).await?;
    Ok(())
}

/// The same on the local platform.
pub fn replace_local(dir: &ClusterDir, name: &str) -> Result<(), Error> {
    for key in KEYS {
        if dir.secret_folder(name).join(key).exists() {
            dir.write_secret(name, key, random()?.as_bytes())?;
        }
    }
    Ok(())
}

/// The value of a key, as the shells in the pods read it.
pub async fn value(place: &Place, secret: &str, key: &str) -> Result<String, Error> {
    let value = match place {
        Place::Kubernetes(cluster, _) => {
            let live = cluster.get(Kind::Secret, secret).await?;
            live.and_then(|live| keys(&live).remove(key)).map(|value| value.0)
        }
        Place::Local(dir) => {
            let (desired, _) = local::desired_of(dir)?;
            let folder = secret_folder(dir, &desired, secret).ok();
            folder.and_then(|folder| std::fs::read(folder.join(key)).ok())
        }
    };
    let text = value.and_then(|value| String::from_utf8(value).ok());
    let text = text.map(|text| text.trim_end_matches('\n').to_owned());
    text.filter(|text| !text.is_empty()).ok_or_else(|| Error::Usage {
        message: format!("Secret {secret} has no {key}"),
        help: "run `sparkha create` with the same arguments to create it; add it yourself if the Secret is your own"
            .into(),
    })
}

/// 64 random bits as hexadecimal digits: a unique id, not a secret.
pub fn id() -> Result<String, Error> {
    let mut digits = random()?;
    digits.truncate(16);
    Ok(digits)
}

/// 256 random bits from the operating system, as hexadecimal digits.
fn random() -> Result<String, Error> {
    let mut bytes = [0; 32];
    let source = rustls::crypto::ring::default_provider().secure_random;
    source
        .fill(&mut bytes)
        .map_err(|_| Error::io("read random numbers")(io::Error::other("the operating system returned none")))?;
    Ok(HEXLOWER.encode(&bytes))
}
