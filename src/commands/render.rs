//! `sparkha render`.

use clap::Args;
use serde_json::Value;

use super::spec::SpecArguments;
use crate::commands::arguments::Global;
use crate::lifecycle::Error;
use crate::model::labels::Component;
use crate::render::teardown_script::teardown_script;
use crate::render::{self, role};
use crate::report;
use crate::report::exit_code::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha render > spark.yaml                  everything, for `kubectl apply -f`
  sparkha render --masters 1 --namespace data
  sparkha render --teardown > teardown.sh      a script that removes it with kubectl alone
  sparkha render --role --namespace data       what sparkha's users must be allowed to do")]
pub struct Arguments {
    #[command(flatten)]
    spec: SpecArguments,
    #[command(flatten)]
    what: What,
}

/// What to print instead of the objects.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct What {
    /// Only the managed ZooKeeper
    #[arg(long)]
    only_zookeeper: bool,
    /// A script that removes the objects with kubectl alone
    #[arg(long)]
    teardown: bool,
    /// The Roles that sparkha's users need: to look, to run jobs, and to operate this cluster
    #[arg(long)]
    role: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Error> {
    let spec = arguments.spec.resolve(global)?;
    let resources = render::render(&spec);
    let what = &arguments.what;
    let text = if what.teardown {
        teardown_script(&spec.name, &resources)
    } else if what.role {
        let roles = role::roles(&spec).map(|role| serde_json::to_value(role).unwrap_or_default());
        report::yaml(&roles)
    } else if what.only_zookeeper {
        let zookeeper = render::only(&spec, Component::ZooKeeper);
        report::yaml(zookeeper.iter().map(|resource| &resource.object))
    } else {
        let objects: Vec<&Value> = resources.iter().map(|resource| &resource.object).collect();
        report::yaml(objects)
    };
    report::print(&text)?;
    Ok(ExitCode::Success)
}
