//! `sparkha doctor`.

use std::path::PathBuf;

use clap::Args;

use super::spec::SpecArguments;
use crate::cli::{Global, Output};
use crate::doctor::{self, Verdict};
use crate::exit_code::ExitCode;
use crate::platform::local::store::Store;
use crate::report;
use crate::spec::names::Namespace;
use crate::steps::Error;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sparkha doctor --local
  sparkha doctor --local -f sparkha.yaml       what of this cluster file the machine cannot honour
  sparkha doctor --local -o json

Exit code 0 means that nothing is in the way, 8 that something is.")]
pub struct Arguments {
    #[command(flatten)]
    spec: SpecArguments,
    /// Spark for a local cluster [default: SPARK_HOME, PATH, or what `sparkha local fetch` brought]
    #[arg(long, value_name = "FOLDER", requires = "local")]
    spark_home: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub fn run(global: &Global, arguments: Arguments) -> Result<ExitCode, Error> {
    if !global.local {
        return Err(Error::Usage {
            message: "doctor knows this machine only, so far".into(),
            help: "pass --local; `sparkha create --dry-run` runs the checks of a Kubernetes cluster".into(),
        });
    }
    let spec = arguments.spec.resolve(global)?;
    let namespace = super::local_namespace(spec.namespace.as_ref().map(Namespace::as_str))?;
    let dir = Store::open()?.cluster(&namespace, &spec.name);
    let checks = doctor::local::checks(&spec, &dir, arguments.spark_home.as_deref());
    report::print(&report::doctor::checks(&checks, arguments.output.output))?;
    match checks.iter().any(|check| check.verdict == Verdict::Fail) {
        true => Ok(ExitCode::Impossible),
        false => Ok(ExitCode::Success),
    }
}
