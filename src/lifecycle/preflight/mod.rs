//! Reads the live cluster and checks what create needs before anything is changed. Reports all findings at once.

pub mod capacity;
pub mod kubernetes;
pub mod local;
pub mod permissions;

use crate::lifecycle::Error;
use crate::lifecycle::external_zookeeper::ZnodeCheck;
use crate::lifecycle::preflight::kubernetes::ServerFacts;
use crate::model::finding::{Finding, Severity};
use crate::platform::kubernetes::namespace::NamespaceState;
use crate::platform::local::software::{MissingDependency, Software};
use crate::platform::{Backend, Baseline, LiveObjects, Platform};
use crate::render::{Rendered, render};
use crate::spec::ClusterSpec;
use crate::spec::version::too_old_spark;

/// The live cluster before create changes anything.
pub struct Snapshot {
    pub baseline: Baseline,
    pub live: LiveObjects,
    /// The znodes in an external ZooKeeper, if the cluster uses one.
    pub znodes: Option<ZnodeCheck>,
    /// There is no cluster with this name yet: neither an inventory nor objects.
    pub is_first: bool,
    pub environment: Environment,
}

/// What differs between the platforms.
pub enum Environment {
    Kubernetes(Box<ServerFacts>),
    /// The software that was found.
    Local(Result<Software, Vec<MissingDependency>>),
}

impl Snapshot {
    /// Whether objects of a cluster with this name exist without an inventory.
    pub fn has_lost_inventory(&self) -> bool {
        self.baseline.inventory.is_none() && !self.live.is_empty()
    }

    /// Whether the namespace must be created.
    pub fn lacks_namespace(&self) -> bool {
        matches!(&self.environment, Environment::Kubernetes(server) if server.namespace == NamespaceState::Missing)
    }
}

/// Reads the live cluster, once no other command changes it.
pub async fn discover(platform: &dyn Platform, spec: &ClusterSpec) -> Result<Snapshot, Error> {
    match platform.backend() {
        Backend::Kubernetes(cluster) => kubernetes::discover(platform, cluster, spec).await,
        Backend::Local(local) => local::discover(local, spec).await,
    }
}

/// The objects that the platform takes, and their inventory.
pub fn render_for(spec: &ClusterSpec, snapshot: &Snapshot) -> Rendered {
    let rendered = match &snapshot.environment {
        Environment::Kubernetes(server) => Rendered::of(spec, server.served(render(spec).objects)),
        Environment::Local(software) => local::render_for(spec, software.as_ref().ok()),
    };
    let owner = snapshot.znodes.as_ref().and_then(|znodes| znodes.owner.clone());
    let inventory = rendered.inventory.with_znode_owner(owner);
    Rendered {
        inventory: match snapshot.has_lost_inventory() {
            true => inventory.adopting(&snapshot.live),
            false => inventory,
        },
        ..rendered
    }
}

/// Checks that the cluster can be created. `skip` turns what can be skipped into warnings. Returns the warnings.
pub async fn check(
    platform: &dyn Platform,
    spec: &ClusterSpec,
    snapshot: &Snapshot,
    rendered: &Rendered,
    skip: bool,
) -> Result<Vec<Finding>, Error> {
    let live = &snapshot.live;
    // Clashes are never skipped: teardown would delete objects that create took over. Nothing runs without the software.
    let (mut findings, binding) = match (&snapshot.environment, platform.backend()) {
        (Environment::Kubernetes(server), Backend::Kubernetes(cluster)) => {
            let resources = rendered.clone().all(spec);
            (
                server.findings(cluster, spec, &resources, live, skip).await?,
                server.clashes(spec, &resources, live),
            )
        }
        (Environment::Local(software), Backend::Local(local)) => {
            let lacks = software.as_ref().err().into_iter().flatten();
            (
                local::findings(local, spec, rendered, software.as_ref().ok())?,
                lacks.map(local::failure_of).collect(),
            )
        }
        _ => (vec![], vec![]),
    };
    let of_znodes = snapshot
        .znodes
        .iter()
        .flat_map(|znodes| znodes.findings.iter().cloned());
    findings.extend(old_spark(spec, &snapshot.environment));
    let (taken, unreachable): (Vec<_>, Vec<_>) = of_znodes.partition(|finding| finding.severity == Severity::Clash);
    findings.extend(unreachable);
    if skip {
        findings
            .iter_mut()
            .for_each(|finding| finding.severity = Severity::Warning);
    }
    findings.extend(binding.into_iter().chain(taken));
    match findings.iter().any(|finding| finding.severity > Severity::Warning) {
        true => Err(Error::Preflight { findings }),
        false => Ok(findings),
    }
}

/// The warning about a version of Spark that is too old: the one of this machine, or that of the image's tag.
pub fn old_spark(spec: &ClusterSpec, environment: &Environment) -> Option<Finding> {
    let (version, help) = match environment {
        Environment::Local(Ok(software)) => (Some(software.spark_version.as_str()), OTHER_LOCAL_SPARK),
        _ => (spec.image.name.spark_version(), OTHER_SPARK),
    };
    let too_old = version.and_then(too_old_spark)?;
    Some(Finding::new(Severity::Warning, too_old, help))
}

/// The remedy for a version of Spark that is too old.
pub const OTHER_SPARK: &str = "choose a supported version with --image";
/// The same on this machine, where the image does not matter if a Spark is installed.
pub const OTHER_LOCAL_SPARK: &str =
    "`sparkha local fetch` downloads a supported version; name its folder with --spark-home or SPARK_HOME";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::resolve::{Overrides, resolve};

    #[test]
    fn a_spark_that_is_too_old_is_a_warning() {
        let message = |image: &str, environment| {
            let overrides = Overrides {
                image: Some(image.into()),
                ..Overrides::default()
            };
            let spec = resolve(None, &overrides).unwrap();
            old_spark(&spec, &environment).map(|finding| (finding.severity, finding.message))
        };
        let here = |version: &str| {
            let software = Software {
                spark_version: version.into(),
                ..Software::default()
            };
            Environment::Local(Ok(software))
        };
        let missing = || Environment::Local(Err(vec![]));
        let expected = "Spark is 3.5.1; sparkha supports Spark 4.0 and later, tested up to 4.3";
        let warning = Some((Severity::Warning, expected.to_owned()));
        assert_eq!(message("apache/spark:3.5.1-java17", missing()), warning);
        assert_eq!(message("apache/spark:4.3.0", here("3.5.1")), warning);
        for version in ["apache/spark:4.0.0", "apache/spark:latest", "example/etl:1.2.0"] {
            assert_eq!(message(version, missing()), None, "{version}");
        }
    }
}
