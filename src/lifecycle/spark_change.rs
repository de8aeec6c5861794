//! Detects a change of the Spark version or of the RPC protection. Spark versions are not compatible: a leader that
//! cannot read what another version wrote about an application forgets it, and the application's driver waits forever.
//! Drivers with another protection cannot connect at all. Create therefore refuses both while an application runs.
//! Pure.

use kube::core::DynamicObject;
use serde_json::Value;

use crate::lifecycle::Error;
use crate::lifecycle::applications::Applications;
use crate::model::kind::Kind;
use crate::model::labels::{COMPONENT, Component};
use crate::platform::LiveObjects;
use crate::platform::local::software::SPARK;
use crate::render::Resource;
use crate::render::inventory::{Upgrade, UpgradePhase};
use crate::render::pods::RPC_PROTECTION;
use crate::render::protection::DEFAULT_CIPHER;
use crate::spec::image::version_in_image;

/// The Spark installation of a StatefulSet's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spark {
    image: String,
    /// `None` if the image's tag does not contain it.
    version: Option<String>,
    /// RPC protection; `None` is Spark's default.
    rpc: Option<String>,
}

/// A change of the Spark that masters or workers run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparkChange {
    from: Spark,
    to: Spark,
}

impl Spark {
    /// Reads the pod template. On this machine an annotation has the version, which may differ from the image's.
    fn of(set: &Value) -> Self {
        let template = &set["spec"]["template"];
        let image = template["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        let annotations = &template["metadata"]["annotations"];
        let here = annotations[SPARK].as_str();
        Self {
            rpc: annotations[RPC_PROTECTION].as_str().map(str::to_owned),
            image: image.to_owned(),
            version: match here {
                Some(here) => here.split(' ').next().map(str::to_owned),
                None => version_in_image(image),
            },
        }
    }

    /// Unknown versions count as different unless the images are the same.
    fn is_same(&self, other: &Self) -> bool {
        let is_same_version = match (&self.version, &other.version) {
            (Some(version), Some(others)) => version == others,
            _ => self.image == other.image,
        };
        is_same_version && self.rpc == other.rpc
    }

    fn rpc(&self) -> &str {
        self.rpc.as_deref().unwrap_or(DEFAULT_CIPHER)
    }
}

impl std::fmt::Display for Spark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.version {
            Some(version) => f.write_str(version),
            None => write!(f, "of {}", self.image),
        }
    }
}

impl std::fmt::Display for SparkChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spark {} → {}", self.named(&self.from), self.named(&self.to))
    }
}

impl SparkChange {
    /// Compares the live StatefulSets of masters and workers with the desired ones.
    pub fn between(live: &LiveObjects, resources: &[Resource]) -> Option<Self> {
        let sets = resources.iter().filter(|resource| resource.kind == Kind::StatefulSet);
        let mut changes = sets.filter_map(|resource| {
            let component = resource.object["metadata"]["labels"][COMPONENT].as_str()?;
            if component != Component::Master.as_str() && component != Component::Worker.as_str() {
                return None;
            }
            let there: &DynamicObject = live.get(&(resource.kind, resource.name.clone()))?;
            Some(Self {
                from: Spark::of(&there.data),
                to: Spark::of(&resource.object),
            })
        });
        changes.find(|change| !change.from.is_same(&change.to))
    }

    /// Fills in the version that the leader reports if the image does not tell it; `None` if that is the desired one.
    pub fn with_running(mut self, version: Option<String>) -> Option<Self> {
        self.from.version = self.from.version.or(version);
        (!self.from.is_same(&self.to)).then_some(self)
    }

    /// Whether the running version is known without querying the leader.
    pub fn is_known(&self) -> bool {
        self.from.version.is_some()
    }

    /// The version, with the RPC protection if that changes.
    fn named(&self, spark: &Spark) -> String {
        match self.from.rpc == self.to.rpc {
            true => spark.to_string(),
            false => format!("{spark}, {}", spark.rpc()),
        }
    }

    /// The record for the inventory while the change is in progress.
    pub fn upgrade(&self, phase: UpgradePhase) -> Upgrade {
        Upgrade {
            from: self.named(&self.from),
            to: self.named(&self.to),
            from_image: self.from.image.clone(),
            phase,
            successor: None,
        }
    }

    /// The error if running applications would be lost.
    pub fn refused(&self, applications: &Applications) -> Option<Error> {
        let lines = applications.lines().join("; ");
        (!applications.are_none()).then(|| Error::InUse {
            message: format!("{self} would kill the running applications; nothing was changed: {lines}"),
            help: "`sparkha upgrade`, with the same arguments, waits until no application runs and then changes the version; --force changes it \
                   now and kills the applications"
                .into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(image: &str, here: Option<&str>) -> Value {
        let annotations = here.map_or_else(|| json!({}), |here| json!({SPARK: here}));
        json!({
            "metadata": {"name": "spark-master", "labels": {COMPONENT: "master"}},
            "spec": {"template": {"metadata": {"annotations": annotations}, "spec": {"containers": [{"image": image}]}}},
        })
    }

    fn change(from: Value, to: Value) -> Option<SparkChange> {
        let key = (Kind::StatefulSet, "spark-master".to_owned());
        let live = LiveObjects::from([(key, serde_json::from_value(from).unwrap())]);
        let resource = Resource {
            kind: Kind::StatefulSet,
            name: "spark-master".into(),
            object: to,
        };
        SparkChange::between(&live, &[resource])
    }

    #[test]
    fn versions_are_compared_by_image_tags() {
        let of = |from, to| change(set(from, None), set(to, None)).map(|change| change.to_string());
        assert_eq!(of("spark:4.3.0", "registry/spark:4.3.0-java21"), None);
        assert_eq!(of("spark:4.2.1", "spark:4.3.0").as_deref(), Some("Spark 4.2.1 → 4.3.0"));
        assert_eq!(of("mine:latest", "mine:latest"), None);
        assert_eq!(of("mine:a", "mine:b").as_deref(), Some("Spark of mine:a → of mine:b"));
    }

    #[test]
    fn another_rpc_protection_counts_as_another_version() {
        let with = |protection: &str| {
            let mut set = set("spark:4.3.0", None);
            set["spec"]["template"]["metadata"]["annotations"][RPC_PROTECTION] = json!(protection);
            set
        };
        let gcm = || with("AES/GCM/NoPadding");
        assert_eq!(change(gcm(), gcm()), None);
        let reported = change(set("spark:4.3.0", None), gcm()).map(|change| change.to_string());
        assert_eq!(
            reported.as_deref(),
            Some("Spark 4.3.0, AES/CTR/NoPadding → 4.3.0, AES/GCM/NoPadding")
        );
        assert!(change(gcm(), with("without a secret")).is_some());
    }

    #[test]
    fn a_version_missing_in_the_tag_is_read_from_the_leader() {
        let unknown = change(set("mine:latest", None), set("spark:4.3.0", None)).unwrap();
        assert!(!unknown.is_known());
        assert_eq!(unknown.clone().with_running(Some("4.3.0".into())), None);
        let other = unknown.clone().with_running(Some("4.2.1".into())).unwrap();
        assert_eq!(other.to_string(), "Spark 4.2.1 → 4.3.0");
        assert!(unknown.with_running(None).is_some());
        // In an interrupted rollout the masters are new already; the image of the workers tells the old version.
        let known = change(set("spark:4.2.1", None), set("spark:4.3.0", None)).unwrap();
        assert!(known.with_running(Some("4.3.0".into())).is_some());
    }

    #[test]
    fn on_this_machine_the_running_version_counts_instead_of_the_image() {
        let of = |from, to| change(set("spark:4.3.0", Some(from)), set("spark:4.2.1", Some(to))).is_some();
        assert!(!of("4.3.0 at /a", "4.3.0 at /b"));
        assert!(of("4.2.1 at /a", "4.3.0 at /a"));
    }

    #[test]
    fn a_change_is_refused_only_while_applications_run() {
        let change = change(set("spark:4.2.1", None), set("spark:4.3.0", None)).unwrap();
        assert!(change.refused(&Applications::Running(vec![])).is_none());
        let error = change
            .refused(&Applications::Running(vec!["app-1 job of ann (2 cores)".into()]))
            .unwrap();
        assert!(error.to_string().contains("app-1 job of ann (2 cores)"), "{error}");
        assert!(
            change
                .refused(&Applications::Unknown("no master leads".into()))
                .is_some()
        );
    }
}
