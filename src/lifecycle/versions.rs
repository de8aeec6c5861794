//! The versions of sparkha, of a cluster and of what it runs on, and where they do not fit together.

use std::cmp::Ordering;

use k8s_openapi::apimachinery::pkg::version::Info;
use serde::Serialize;

use crate::lifecycle::Error;
use crate::lifecycle::inventory::to_read;
use crate::lifecycle::preflight::kubernetes::{server_version, too_old, version_of};
use crate::model::finding::Finding;
use crate::platform::leader::Leader;
use crate::platform::{Backend, Observation, Platform};
use crate::render::inventory::{FORMAT, Inventory};
use crate::spec::image::version_in_image;
use crate::spec::version::{KUBERNETES, SPARK, numbers, too_old_spark, unsupported_spark};

const OWN: &str = env!("CARGO_PKG_VERSION");

/// What `sparkha version` reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    pub sparkha: &'static str,
    /// The commit that it was built from, with `-dirty` if files differed; `None` if the build did not know it.
    pub commit: Option<&'static str>,
    /// The latest format of inventories that it knows.
    pub inventory_format: u32,
    pub supported: SupportedVersions,
    /// The version of the API server, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterVersions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skew: Vec<Skew>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SupportedVersions {
    pub spark: String,
    pub kubernetes: String,
}

/// The versions of one cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterVersions {
    pub name: String,
    pub namespace: String,
    /// The sparkha that wrote the inventory, and its format.
    pub sparkha: String,
    pub inventory_format: u32,
    pub image: String,
    /// The Spark that the leading master runs; `None` if none leads.
    pub spark: Option<String>,
    /// The version of the cluster's own ZooKeeper servers; `None` if none responds.
    pub zookeeper: Option<String>,
}

/// Two versions that do not fit together, and what to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skew {
    pub message: String,
    pub help: String,
}

impl From<Finding> for Skew {
    fn from(finding: Finding) -> Self {
        let Finding { message, help, .. } = finding;
        Self { message, help }
    }
}

impl Skew {
    fn new(message: String, help: impl Into<String>) -> Self {
        Self {
            message,
            help: help.into(),
        }
    }
}

impl Versions {
    /// sparkha's own. Asks nothing.
    pub fn own() -> Self {
        Self {
            sparkha: OWN,
            commit: option_env!("SPARKHA_COMMIT").filter(|commit| !commit.is_empty()),
            inventory_format: FORMAT,
            supported: SupportedVersions {
                spark: SPARK.to_string(),
                kubernetes: KUBERNETES.to_string(),
            },
            kubernetes: None,
            cluster: None,
            skew: vec![],
        }
    }

    /// Adds the versions of the platform and of the cluster. What was found before a failure stays.
    pub async fn query(&mut self, platform: &dyn Platform) -> Result<(), Error> {
        if let Backend::Kubernetes(cluster) = platform.backend() {
            let info = server_version(cluster).await?;
            self.skew.extend(of_kubernetes(&info));
            self.kubernetes = Some(info.git_version);
        }
        let inventory = to_read(platform).await?;
        let (spark, zookeeper) = futures::join!(running_spark(platform), running_zookeeper(platform));
        self.skew.extend(of_sparkha(&inventory));
        self.skew.extend(of_spark(&inventory.cluster.image, spark.as_deref()));
        let summary = inventory.cluster;
        self.cluster = Some(ClusterVersions {
            name: summary.name.to_string(),
            namespace: platform.namespace().to_string(),
            sparkha: summary.sparkha_version,
            inventory_format: summary.format,
            image: summary.image,
            spark,
            zookeeper,
        });
        Ok(())
    }
}

/// What the leader reports.
async fn running_spark(platform: &dyn Platform) -> Option<String> {
    let pods = platform.pods().await.ok()?;
    Leader::new(platform.transport()).query(pods).await?.page.version
}

async fn running_zookeeper(platform: &dyn Platform) -> Option<String> {
    let facts = platform.facts(Observation::Once).await.ok()?;
    let mut reports = facts.zookeepers.values().flatten();
    let [major, minor, patch] = reports.find_map(|report| report.version)?;
    Some(format!("{major}.{minor}.{patch}"))
}

fn of_kubernetes(info: &Info) -> Option<Skew> {
    let version = &info.git_version;
    let is_untested = version_of(info).is_some_and(|version| KUBERNETES.is_untested(version));
    let untested = || {
        Skew::new(
            format!("the API server is {version}; sparkha supports {KUBERNETES}"),
            "nothing is known to fail; a newer sparkha may have been tested with it",
        )
    };
    too_old(info).map(Skew::from).or_else(|| is_untested.then(untested))
}

/// This sparkha, and the one that wrote the inventory.
pub fn of_sparkha(inventory: &Inventory) -> Option<Skew> {
    if let Some(newer) = inventory.newer() {
        return Some(Skew::new(newer.to_string(), newer.help()));
    }
    let number = |text: &str| -> Vec<u64> {
        let parts = text.split(['.', '-', '+']);
        parts.map_while(|part| part.parse().ok()).collect()
    };
    let made_by = inventory.cluster.sparkha_version.as_str();
    let help = match number(made_by).cmp(&number(OWN)) {
        Ordering::Equal => return None,
        Ordering::Greater => "use that version, or a newer one",
        Ordering::Less => {
            "`sparkha create` with the cluster's own file upgrades it to this version; --dry-run shows what would change"
        }
    };
    Some(Skew::new(
        format!("the cluster was made by sparkha {made_by}, this is {OWN}"),
        help,
    ))
}

/// The Spark that runs, that of the image, and the supported ones.
fn of_spark(image: &str, running: Option<&str>) -> Vec<Skew> {
    let named = version_in_image(image);
    let mut skew = Vec::new();
    if let (Some(named), Some(running)) = (named.as_deref(), running)
        && named != running
    {
        skew.push(Skew::new(
            format!("the leader runs Spark {running}, and the image is {image}"),
            "a change is still in progress, or the tag is not Spark's version: `sparkha status` shows the pods",
        ));
    }
    let Some(version) = running.or(named.as_deref()) else {
        return skew;
    };
    let [major, minor, _] = numbers(version);
    if let Some(too_old) = too_old_spark(version) {
        let help = "`sparkha upgrade --image IMAGE` moves the cluster to another version when no application runs";
        skew.push(Skew::new(too_old, help));
    } else if SPARK.is_untested([major, minor]) {
        let help = "nothing is known to fail; a newer sparkha may have been tested with it";
        skew.push(Skew::new(unsupported_spark(version), help));
    }
    skew
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(minor: &str) -> Info {
        Info {
            major: "1".into(),
            minor: minor.into(),
            git_version: format!("v1.{minor}.0"),
            ..Default::default()
        }
    }

    fn messages(skew: impl IntoIterator<Item = Skew>) -> Vec<String> {
        skew.into_iter().map(|skew| skew.message).collect()
    }

    #[test]
    fn servers_outside_of_the_tested_versions_are_reported() {
        assert_eq!(of_kubernetes(&info("20+")), None);
        assert_eq!(of_kubernetes(&info("37")), None);
        let expected = "the API server is v1.19.0; sparkha supports Kubernetes 1.20 and later, tested up to 1.37";
        assert_eq!(messages(of_kubernetes(&info("19"))), [expected]);
        assert_eq!(messages(of_kubernetes(&info("99"))), [expected.replace("19", "99")]);
        // A server that hides its version.
        assert_eq!(of_kubernetes(&Info::default()), None);
    }

    #[test]
    fn versions_of_sparkha_are_compared_as_numbers() {
        let inventory = |version: &str, format| {
            let spec = crate::spec::resolve::resolve(None, &Default::default()).unwrap();
            let mut inventory = Inventory::of(&spec, &[]);
            inventory.cluster.sparkha_version = version.into();
            inventory.cluster.format = format;
            inventory
        };
        let help = |version, format| of_sparkha(&inventory(version, format)).unwrap().help;
        assert_eq!(of_sparkha(&inventory(OWN, FORMAT)), None);
        assert_eq!(help("99.10.0", FORMAT), "use that version, or a newer one");
        assert!(help("0.0.9", FORMAT).contains("sparkha create"));
        assert!(help("99.10.0", FORMAT + 1).contains("install sparkha 99.10.0"));
    }

    #[test]
    fn the_running_spark_is_compared_with_the_image_and_with_what_is_supported() {
        assert_eq!(of_spark("x/spark:4.3.0-java17", Some("4.3.0")), []);
        assert_eq!(of_spark("x/spark:latest", None), []);
        assert_eq!(
            messages(of_spark("x/spark:4.3.0", Some("4.2.1"))),
            ["the leader runs Spark 4.2.1, and the image is x/spark:4.3.0"]
        );
        let supports = "sparkha supports Spark 4.0 and later, tested up to 4.3";
        assert_eq!(
            messages(of_spark("x/spark:3.5.1", None)),
            [format!("Spark is 3.5.1; {supports}")]
        );
        assert_eq!(
            messages(of_spark("x/spark:latest", Some("9.0.0"))),
            [format!("Spark is 9.0.0; {supports}")]
        );
    }
}
