//! Cluster files from other descriptions of a standalone cluster. Each setting of theirs is either carried over, or reported with the
//! reason why it is not.

pub mod bitnami;
pub mod conf_folder;
pub mod helm;
mod spark;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use crate::spec::file;
use crate::spec::file::tree::join;
use crate::spec::overrides::Overrides;
use crate::spec::problem::{Location, Problem};
use crate::spec::quantity::Memory;
use crate::spec::resolve::{Source, resolve};

/// A cluster file, and the outcome of every setting that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    pub cluster_file: String,
    pub settings: Vec<Setting>,
}

/// A setting of the other description, such as `worker.replicaCount`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub name: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub enum Outcome {
    /// The key of the cluster file that has it now.
    CarriedOver { key: String },
    /// Nothing in the cluster file has its effect.
    NoCounterpart { reason: String },
    /// Its effect is not needed, or not wanted.
    Ignored { reason: String },
}

/// Top-level keys of a cluster file, in the order in which people read them. All others follow.
const ORDER: [&str; 8] = [
    "name",
    "namespace",
    "image",
    "masters",
    "workers",
    "zookeeper",
    "history",
    "sparkConf",
];

/// A cluster file in the making.
#[derive(Debug)]
struct Draft {
    file: Value,
    settings: Vec<Setting>,
    /// All keys that were set.
    keys: Vec<String>,
    /// What a worker offered.
    offer: Option<Memory>,
}

impl Draft {
    fn new() -> Self {
        Self {
            file: json!({}),
            settings: Vec::new(),
            keys: Vec::new(),
            offer: None,
        }
    }

    fn report(&mut self, setting: &str, outcome: Outcome) {
        self.settings.push(Setting {
            name: setting.to_owned(),
            outcome,
        });
    }

    /// Sets a key of the cluster file, and reports the setting as carried over to it.
    fn set(&mut self, setting: &str, path: &[&str], value: impl Into<Value>) {
        self.put(path, value);
        self.carried_over(setting, path);
    }

    /// Sets a key of the cluster file.
    fn put(&mut self, path: &[&str], value: impl Into<Value>) {
        self.keys.push(joined(path));
        let mut place = &mut self.file;
        for key in path {
            // A feature that was merely on gets settings.
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[*key];
        }
        *place = value.into();
    }

    fn carried_over(&mut self, setting: &str, path: &[&str]) {
        let key = joined(path);
        self.report(setting, Outcome::CarriedOver { key });
    }

    fn no_counterpart(&mut self, setting: &str, reason: impl Into<String>) {
        let reason = reason.into();
        self.report(setting, Outcome::NoCounterpart { reason });
    }

    fn ignored(&mut self, setting: &str, reason: impl Into<String>) {
        let reason = reason.into();
        self.report(setting, Outcome::Ignored { reason });
    }

    /// The cluster file, without what sparkha refuses: these settings have no counterpart, for the reason that sparkha gives.
    fn finish(mut self) -> Import {
        self.size_workers();
        loop {
            let cluster_file = self.text();
            let source = Source {
                name: "",
                text: &cluster_file,
            };
            let Err(problems) = resolve(Some(source), &Overrides::default()) else {
                let settings = self.settings;
                return Import { cluster_file, settings };
            };
            // Each round removes a key. What concerns none is reported by the next command.
            if !problems.list.iter().any(|problem| self.refuse(problem)) {
                let settings = self.settings;
                return Import { cluster_file, settings };
            }
        }
    }

    /// Removes the key that a mistake is about. Returns whether there was one.
    fn refuse(&mut self, problem: &Problem) -> bool {
        let Location::File { path, .. } = &problem.location else {
            return false;
        };
        // The longest key that contains the mistake, or all keys inside of the mistaken one, or all beside it: a default does not suit them.
        let group = path.split(['.', '[']).next().unwrap_or_default();
        let keys = self.keys.iter().filter(|key| exists(&self.file, key));
        let containing = keys
            .clone()
            .filter(|key| contains(key, path))
            .max_by_key(|key| key.len());
        let inside: BTreeSet<_> = keys.clone().filter(|key| contains(path, key)).cloned().collect();
        let refused = match containing {
            Some(key) => [key.clone()].into(),
            None if !inside.is_empty() => inside,
            None => keys.filter(|key| contains(group, key)).cloned().collect(),
        };
        let mut removed = false;
        for key in refused {
            if !remove(&mut self.file, &key) {
                continue;
            }
            removed = true;
            let help = problem
                .help
                .as_deref()
                .map(|help| format!("; {help}"))
                .unwrap_or_default();
            self.take_back(&key, &format!("{}{help}", problem.message));
        }
        removed
    }

    /// Reports the settings that were carried over to this key as without a counterpart.
    fn take_back(&mut self, key: &str, reason: &str) {
        for setting in &mut self.settings {
            if matches!(&setting.outcome, Outcome::CarriedOver { key: own } if own == key) {
                setting.outcome = Outcome::NoCounterpart { reason: reason.into() };
            }
        }
    }

    /// The file as text, with its keys in [`ORDER`].
    fn text(&self) -> String {
        let keys = self.file.as_object().into_iter().flatten();
        let mut keys: Vec<_> = keys.collect();
        keys.sort_by_key(|(key, _)| ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len()));
        let parts = keys.into_iter().map(|(key, value)| file::yaml(&json!({key: value})));
        parts.collect()
    }
}

fn joined(path: &[&str]) -> String {
    path.iter().fold(String::new(), |path, key| join(&path, key))
}

/// Whether a path is inside of a key, or is this key.
fn contains(key: &str, path: &str) -> bool {
    let rest = path.strip_prefix(key);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether there is a key with this joined path.
fn exists(value: &Value, path: &str) -> bool {
    let mut copy = value.clone();
    remove(&mut copy, path)
}

/// Removes a key by its joined path, and parents that are empty then. Keys can have dots themselves.
fn remove(value: &mut Value, path: &str) -> bool {
    let Some(object) = value.as_object_mut() else {
        return false;
    };
    if object.remove(path).is_some() {
        return true;
    }
    let child = object
        .keys()
        .find(|key| path.strip_prefix(&**key).is_some_and(|rest| rest.starts_with('.')));
    let Some(child) = child.cloned() else { return false };
    let inner = &mut object[&child];
    let removed = remove(inner, &path[child.len() + 1..]);
    if inner.as_object().is_some_and(serde_json::Map::is_empty) {
        object.remove(&child);
    }
    removed
}

/// A text, or a number or boolean as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
