//! Creates secret values once and keeps them: in a Secret, or on this machine in files that only the user can read.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;

use crate::lifecycle::Error;
use crate::platform::{self, Platform, random_secret};
use crate::render::Resource;
use crate::render::auth::KEYS;

/// Creates the keys of a planned Secret.
pub async fn make(platform: &dyn Platform, secret: &Resource, exists: bool) -> Result<(), Error> {
    let keys = secret.object["stringData"].as_object().into_iter().flatten();
    let values = random_values(keys.map(|(key, _)| key.as_str()))?;
    let new = Some(secret).filter(|_| !exists);
    Ok(platform.put_secret(&secret.name, values, new).await?)
}

/// Replaces the values of all keys of a Secret that sparkha generates.
pub async fn replace(platform: &dyn Platform, name: &str) -> Result<(), Error> {
    let there = platform.secret(name).await?;
    let values = random_values(KEYS.into_iter().filter(|&key| there.contains_key(key)))?;
    Ok(platform.put_secret(name, values, None).await?)
}

fn random_values<'a>(keys: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, String>, Error> {
    let values = keys.map(|key| Ok((key.to_owned(), random_secret()?)));
    values.collect()
}

/// The value of a key.
pub async fn value(platform: &dyn Platform, secret: &str, key: &str) -> Result<String, Error> {
    let values = match platform.secret(secret).await {
        Err(platform::Error::NoSecret { .. }) => BTreeMap::new(),
        values => values?,
    };
    let value = text(&values, key).filter(|text| !text.is_empty());
    value.ok_or_else(|| Error::Usage {
        message: format!("Secret {secret} has no {key}"),
        help: "run `sparkha create` with the same arguments to create it; add it yourself if the Secret is your own"
            .into(),
    })
}

/// A value as the shells in the pods read it: without the newline at its end.
pub fn text(values: &BTreeMap<String, ByteString>, key: &str) -> Option<String> {
    let text = std::str::from_utf8(&values.get(key)?.0).ok()?;
    Some(text.trim_end_matches('\n').to_owned())
}
