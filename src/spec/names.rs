//! Valid names of clusters and namespaces, and the names of objects derived from them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Length of a DNS label.
const LABEL_MAX: usize = 63;
/// The controller appends `-` and ten characters to a StatefulSet's name for the label `controller-revision-hash`.
const SET_NAME_MAX: usize = LABEL_MAX - 11;
/// The longest suffix of a cluster's StatefulSets.
const LONGEST_SET_SUFFIX: &str = "-zookeeper";
/// Suffix of the inventory's name.
pub const INVENTORY_SUFFIX: &str = "-sparkha";
/// Maximum length of a cluster's name.
pub const CLUSTER_NAME_MAX: usize = SET_NAME_MAX - LONGEST_SET_SUFFIX.len();

const _: () = assert!(CLUSTER_NAME_MAX == 42);
const _: () = assert!(CLUSTER_NAME_MAX + "-zookeeper-0".len() <= LABEL_MAX);
const _: () = assert!(CLUSTER_NAME_MAX + "-master-999".len() <= LABEL_MAX);

/// A name that breaks a rule of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a valid {what}: {rule}", visible(name))]
pub struct NameError {
    name: String,
    what: &'static str,
    rule: String,
}

/// The name of a cluster: a DNS label that begins with a letter (Services require it), short enough for the names
/// derived from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ClusterName(String);

impl TryFrom<String> for ClusterName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::parse(&name)
    }
}

impl ClusterName {
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
        check(name, "cluster name", CLUSTER_NAME_MAX, starts_well, "a letter")?;
        Ok(Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// StatefulSet of the masters.
    pub fn masters_set(&self) -> String {
        format!("{self}-master")
    }

    /// Pod and Service of one master.
    pub fn master(&self, ordinal: u32) -> String {
        format!("{self}-master-{ordinal}")
    }

    /// Headless Service that governs the masters.
    pub fn masters_service(&self) -> String {
        format!("{self}-masters")
    }

    /// Service of the cluster's web UI.
    pub fn ui_service(&self) -> String {
        format!("{self}-master")
    }

    /// StatefulSet of the workers.
    pub fn workers_set(&self) -> String {
        format!("{self}-worker")
    }

    /// Headless Service that governs the workers.
    pub fn workers_service(&self) -> String {
        format!("{self}-workers")
    }

    /// StatefulSet and headless Service of the ZooKeepers.
    pub fn zookeeper(&self) -> String {
        format!("{self}-zookeeper")
    }

    /// StatefulSet and Service of the history server.
    pub fn history(&self) -> String {
        format!("{self}-history")
    }

    /// StatefulSet and Service of the Spark Connect server.
    pub fn connect(&self) -> String {
        format!("{self}-connect")
    }

    /// NetworkPolicy and PodMonitor of the drivers.
    pub fn drivers(&self) -> String {
        format!("{self}-driver")
    }

    /// ConfigMap with the daemons' configuration.
    pub fn conf(&self) -> String {
        format!("{self}-conf")
    }

    /// Secret with which the cluster's components authenticate each other.
    pub fn auth(&self) -> String {
        format!("{self}-auth")
    }

    /// ConfigMap with the inventory.
    pub fn inventory(&self) -> String {
        format!("{self}{INVENTORY_SUFFIX}")
    }

    pub fn service_account(&self) -> String {
        self.0.clone()
    }

    /// Name of the Nth generation of this cluster.
    pub fn generation(&self, number: u32) -> Result<Self, NameError> {
        Self::parse(&format!("{self}-{number}"))
    }
}

/// The public name of a later generation: the name of the cluster's first generation. Commands and routes resolve it to this generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    pub name: ClusterName,
    /// The previous generation is removed: objects with this name belong to this generation.
    pub active: bool,
}

impl Alias {
    /// The name, if objects with it belong to this generation.
    pub fn active(alias: Option<&Self>) -> Option<&ClusterName> {
        alias.filter(|alias| alias.active).map(|alias| &alias.name)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a namespace: a DNS label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Namespace(String);

impl Namespace {
    pub fn parse(name: &str) -> Result<Self, NameError> {
        check_label(name, "namespace").map(|()| Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Maximum length of a DNS name.
const DOMAIN_NAME_MAX: usize = 253;
/// Maximum length of a UI domain: a pod's label and a namespace precede it.
const UI_DOMAIN_MAX: usize = DOMAIN_NAME_MAX - 2 * (LABEL_MAX + 1);

/// The domain of web UIs: a DNS subdomain, short enough for its host names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct UiDomain(String);

impl TryFrom<String> for UiDomain {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::parse(&name)
    }
}

impl Default for UiDomain {
    fn default() -> Self {
        Self("k8s".into())
    }
}

impl UiDomain {
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let rule = if name.len() > UI_DOMAIN_MAX {
            format!("it has {} characters, {UI_DOMAIN_MAX} are allowed", name.len())
        } else if is_dns_subdomain(name) {
            return Ok(Self(name.to_owned()));
        } else {
            "lower-case letters, digits and `-`, separated by dots, are allowed".to_owned()
        };
        Err(NameError {
            name: name.to_owned(),
            what: "domain name",
            rule,
        })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UiDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The owner of routes in a shared router: a DNS label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerName(String);

impl OwnerName {
    pub fn parse(name: &str) -> Result<Self, NameError> {
        check_label(name, "owner").map(|()| Self(name.to_owned()))
    }
}

impl fmt::Display for OwnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Untrusted text with control characters escaped, safe for a terminal.
pub fn visible(text: &str) -> String {
    escaped(text, &[])
}

/// The same for a text of several lines.
pub fn visible_lines(text: &str) -> String {
    escaped(text, &['\n', '\t'])
}

fn escaped(text: &str, kept: &[char]) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && !kept.contains(&c) {
                c.escape_debug().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

/// Whether the name is a DNS label (RFC 1123).
pub fn is_dns_label(name: &str) -> bool {
    check_label(name, "").is_ok()
}

/// Whether the name is a DNS subdomain: labels separated by dots.
pub fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= DOMAIN_NAME_MAX && name.split('.').all(is_dns_label)
}

fn check_label(name: &str, what: &'static str) -> Result<(), NameError> {
    check(name, what, LABEL_MAX, !name.starts_with('-'), "a letter or digit")
}

fn check(name: &str, what: &'static str, max: usize, starts_well: bool, start: &str) -> Result<(), NameError> {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let rule = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > max {
        format!("it has {} characters, {max} are allowed", name.len())
    } else if let Some(bad) = name.chars().find(|&c| !valid(c)) {
        format!(
            "it contains `{}`; lower-case letters, digits and `-` are allowed",
            visible(&bad.to_string())
        )
    } else if !starts_well {
        format!("it must begin with {start}")
    } else if name.ends_with('-') {
        "it must not end with `-`".to_owned()
    } else {
        return Ok(());
    };
    Err(NameError {
        name: name.to_owned(),
        what,
        rule,
    })
}

/// Whether the text is a qualified name of Kubernetes, without a prefix.
pub fn is_qualified(text: &str) -> bool {
    let middle = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=63).contains(&text.len())
        && text.chars().all(middle)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_are_refused_with_the_broken_rule() {
        let refused = |name: &str| ClusterName::parse(name).unwrap_err().to_string();
        assert_eq!(
            refused("Spark"),
            "`Spark` is not a valid cluster name: it contains `S`; lower-case letters, digits and `-` are allowed"
        );
        assert_eq!(
            refused("1spark"),
            "`1spark` is not a valid cluster name: it must begin with a letter"
        );
        assert_eq!(
            refused("spark-"),
            "`spark-` is not a valid cluster name: it must not end with `-`"
        );
        assert_eq!(
            refused(&"s".repeat(43)),
            format!(
                "`{}` is not a valid cluster name: it has 43 characters, 42 are allowed",
                "s".repeat(43)
            )
        );
        assert!(ClusterName::parse(&"s".repeat(42)).is_ok());
        assert!(Namespace::parse("1").is_ok());
        assert!(Namespace::parse("").is_err());
        assert!(is_dns_subdomain("a.b-c.9"));
        assert!(UiDomain::parse("s.".repeat(62).trim_end_matches('.')).is_ok());
        assert!(UiDomain::parse("s.".repeat(64).trim_end_matches('.')).is_err());
        assert_eq!(
            UiDomain::parse("x\u{1b}[2J").unwrap_err().to_string(),
            "`x\\u{1b}[2J` is not a valid domain name: lower-case letters, digits and `-`, separated by dots, are allowed"
        );
        assert!(!is_dns_subdomain("a..b"));
    }
}
