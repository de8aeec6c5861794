//! Creates secret values once and keeps them: in a Secret, or on this machine in files that only the user can read.

use std::collections::BTreeMap;

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

/// The value of a key, as the shells in the pods read it.
pub async fn value(platform: &dyn Platform, secret: &str, key: &str) -> Result<String, Error> {
    let mut values = match platform.secret(secret).await {
        Err(platform::Error::NoSecret { .. }) => BTreeMap::new(),
        values => values?,
    };
    let text = values.remove(key).and_then(|value| String::from_utf8(value.0).ok());
    let text = text.map(|text| text.trim_end_matches('\n').to_owned());
    text.filter(|text| !text.is_empty()).ok_or_else(|| Error::Usage {
        message: format!("Secret {secret} has no {key}"),
        help: "run `sparkha create` with the same arguments to create it; add it yourself if the Secret is your own"
            .into(),
    })
}
