//! `sparkha import`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::spec::read;
use crate::commands::arguments::{Global, OutputArguments};
use crate::commands::heading;
use crate::import::bitnami::ChartDefaults;
use crate::import::helm::{LABELS, Release};
use crate::import::{Import, bitnami, conf_folder};
use crate::lifecycle::Error;
use crate::platform::kubernetes::Cluster;
use crate::report;
use crate::spec::file::tree;
use crate::spec::names::is_dns_subdomain;
use crate::spec::problem::Problems;

/// Write a cluster file for a cluster that something else runs
///
/// The cluster file goes to standard output. Standard error says of each setting whether it was carried over, and if not, why.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  sparkha import bitnami values.yaml > sparkha.yaml
  sparkha import conf /opt/spark/conf > sparkha.yaml")]
pub enum ImportCommand {
    /// From the values or a release of Bitnami's Spark chart
    #[command(after_help = "Examples:
  sparkha import bitnami values.yaml > sparkha.yaml
  helm get values analytics | sparkha import bitnami - > sparkha.yaml
  sparkha import bitnami --release analytics --namespace data > sparkha.yaml")]
    Bitnami {
        #[command(flatten)]
        source: ChartArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// From Spark's spark-env.sh, spark-defaults.conf and workers
    #[command(after_help = "Examples:
  sparkha import conf /opt/spark/conf > sparkha.yaml
  sparkha import conf /opt/spark/conf -o json  what became of each setting, too")]
    Conf {
        /// Folder with these files
        folder: PathBuf,
        #[command(flatten)]
        output: OutputArguments,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ChartArguments {
    /// The chart's values, or `-` for standard input
    values: Option<PathBuf>,
    /// Helm release to read the values from, in the namespace of --namespace
    #[arg(long, value_name = "RELEASE", help_heading = heading::SELECTION)]
    release: Option<String>,
}

pub async fn run(global: &Global, command: ImportCommand) -> Result<(), Error> {
    let (import, output) = match command {
        ImportCommand::Bitnami { source, output } => {
            let import = match (&source.release, &source.values) {
                (Some(name), _) => of_release(&super::connected(global).await?, name).await?,
                (None, Some(path)) => of_values(path)?,
                // clap requires one of them.
                (None, None) => bitnami::import(&serde_json::Value::Null, ChartDefaults::default()),
            };
            (import, output)
        }
        ImportCommand::Conf { folder, output } => (of_folder(&folder)?, output),
    };
    report::import::print(&import, output.output, global.quiet)
}

fn of_values(path: &Path) -> Result<Import, Error> {
    let (name, text) = read("values", path)?;
    let problems = |list| Problems {
        file: name.clone(),
        list,
    };
    match tree::read(&text) {
        Ok((values, _, list)) if list.is_empty() => Ok(bitnami::import(&values, ChartDefaults::default())),
        Ok((_, _, list)) => Err(problems(list).into()),
        Err(problem) => Err(problems(vec![problem]).into()),
    }
}

/// The newest deployed revision of a release.
async fn of_release(cluster: &Cluster, name: &str) -> Result<Import, Error> {
    if !is_dns_subdomain(name) {
        return Err(super::bad_flag("--release", "this is not the name of a release"));
    }
    let secrets: Vec<Secret> = cluster.list_of(&format!("{LABELS},name={name}")).await?;
    let revision = |secret: &&Secret| {
        secret
            .labels()
            .get("version")
            .and_then(|number| number.parse::<u64>().ok())
    };
    let newest = secrets.iter().max_by_key(revision);
    let data = newest.and_then(|secret| secret.data.as_ref()?.get("release"));
    let usage = |message: String, help: &str| Error::Usage {
        message,
        help: help.into(),
    };
    let namespace = cluster.namespace();
    let data = data.ok_or_else(|| {
        usage(
            format!("namespace {namespace} has no deployed Helm release {name}"),
            "`helm list --all-namespaces` lists releases; pass --namespace",
        )
    })?;
    let release = Release::read(&data.0).map_err(|error| {
        usage(
            format!("failed to read Helm release {name} in namespace {namespace}: {error}"),
            "`helm get values RELEASE > values.yaml` writes its values to a file",
        )
    })?;
    if release.chart.metadata.name != "spark" {
        let chart = release.chart.metadata.name.escape_debug();
        return Err(usage(
            format!("Helm release {name} is of chart {chart}, not of Bitnami's chart spark"),
            "pass a release of that chart",
        ));
    }
    let defaults = ChartDefaults {
        name: Some(name),
        tag: release.default_tag(),
    };
    Ok(bitnami::import(&release.config, defaults))
}

fn of_folder(folder: &Path) -> Result<Import, Error> {
    let mut files = BTreeMap::new();
    for name in conf_folder::READ.into_iter().chain(conf_folder::OTHERS) {
        let path = folder.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => {
                files.insert(name.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(format!("read {}", path.display()))(error)),
        }
    }
    if !conf_folder::READ.iter().any(|name| files.contains_key(*name)) {
        return Err(Error::Usage {
            message: format!("{} has none of Spark's configuration files", folder.display()),
            help: format!("pass the folder with {}", conf_folder::READ.join(", ")),
        });
    }
    Ok(conf_folder::import(&files))
}
