//! `sparkha render`.

use clap::Args;
use serde_json::Value;

use super::spec::{SpecArguments, warn_of_secrets};
use crate::commands::arguments::Global;
use crate::commands::heading;
use crate::lifecycle::Error;
use crate::model::labels::Component;
use crate::render::teardown_script::teardown_script;
use crate::render::{self, role};
use crate::report;
use crate::spec::Recovery;
use crate::spec::version::too_old_spark;

/// Print the objects of a cluster as YAML, without a Kubernetes cluster
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  sparkha render > spark.yaml                  all objects, for `kubectl apply -f`
  sparkha render --masters 1 --namespace data
  sparkha render shared --only-zookeeper       an ensemble that clusters share
  sparkha render --teardown > teardown.sh      a script that removes the cluster with kubectl
  sparkha render --role --namespace data       the permissions that sparkha's users need")]
pub struct Arguments {
    #[command(flatten)]
    spec: SpecArguments,
    #[command(flatten)]
    what: RenderSelection,
}

/// What to print instead of the objects.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct RenderSelection {
    /// Print a ZooKeeper ensemble for clusters to share, without passwords
    ///
    /// Everybody who can connect to it can change it. Its objects have the names of the managed ensemble of a cluster with this NAME: do not
    /// apply both to one namespace.
    #[arg(long, help_heading = heading::OUTPUT)]
    only_zookeeper: bool,
    /// Print a script that removes the objects with kubectl
    #[arg(long, help_heading = heading::OUTPUT)]
    teardown: bool,
    /// Print the Roles to view the cluster, to run jobs, and to operate it
    #[arg(long, help_heading = heading::OUTPUT)]
    role: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> Result<(), Error> {
    let spec = arguments.spec.resolve(global)?;
    if let Some(too_old) = spec.image.name.spark_version().and_then(too_old_spark) {
        tracing::warn!("{too_old}");
    }
    warn_of_secrets(&spec);
    let resources = render::render(&spec).all(&spec);
    let what = &arguments.what;
    let text = if what.teardown {
        teardown_script(&spec, &resources)
    } else if what.role {
        let roles = role::roles(&spec).map(|role| serde_json::to_value(role).unwrap_or_default());
        report::yaml(&roles)
    } else if what.only_zookeeper {
        if !matches!(spec.recovery, Recovery::ManagedZooKeeper(_)) {
            return Err(Error::Usage {
                message: "this cluster has no ZooKeeper of its own, so there is nothing to print".into(),
                help: "omit --zookeeper, and request at least 2 masters or set zookeeper in the cluster file".into(),
            });
        }
        let zookeeper = render::only(&spec, Component::ZooKeeper);
        report::yaml(zookeeper.iter().map(|resource| &resource.object))
    } else {
        let objects: Vec<&Value> = resources.iter().map(|resource| &resource.object).collect();
        report::yaml(objects)
    };
    report::print(&text)
}
