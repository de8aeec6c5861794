//! The arguments that describe a cluster, shared by create and render.

use std::path::PathBuf;

use clap::Args;

use super::local_namespace;
use crate::cli::Global;
use crate::platform::kubernetes::{Cluster, connect};
use crate::platform::local::store::{ClusterDir, Store};
use crate::render::inventory::CLUSTER_FILE;
use crate::report::hint;
use crate::spec::ClusterSpec;
use crate::spec::names::{ClusterName, Namespace};
use crate::spec::resolve::{Overrides, Source, resolve};
use crate::steps::Error;
use crate::steps::differences::Origin;

#[derive(Clone, Debug, Args)]
pub struct SpecArguments {
    /// Name of the cluster [default: spark]
    pub name: Option<String>,
    /// Cluster file; everything can be said there, flags win. `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Number of masters [default: 3]
    #[arg(long, value_name = "N")]
    pub masters: Option<u32>,
    /// Number of workers [default: 2]
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
    /// Cores of each worker's pod [default: 1]
    #[arg(long, value_name = "N")]
    pub worker_cores: Option<u32>,
    /// Memory of each worker's pod, like 4Gi or 4g [default: 2Gi]
    #[arg(long, value_name = "SIZE")]
    pub worker_memory: Option<String>,
    /// Cores that an application gets unless it says otherwise, or `all` [default: half of the cluster's]
    #[arg(long, value_name = "N")]
    pub default_cores: Option<String>,
    /// Image with Spark
    #[arg(long)]
    pub image: Option<String>,
    /// External ZooKeeper: host:port,… and /chroot if there is one
    #[arg(long, value_name = "SERVERS")]
    pub zookeeper: Option<String>,
    /// Domain of the web UIs' addresses [default: k8s]
    #[arg(long, value_name = "DOMAIN")]
    pub ui_domain: Option<String>,
    /// A history server, and event logs for it
    #[arg(long)]
    pub history: bool,
    /// A Spark Connect server for remote clients
    #[arg(long)]
    pub connect: bool,
    /// Metrics for Prometheus
    #[arg(long)]
    pub metrics: bool,
}

/// The arguments with the text of their cluster file, which can be read only once: it may be standard input.
pub struct Description<'a> {
    arguments: &'a SpecArguments,
    /// For messages, and the text.
    file: Option<(String, String)>,
}

impl Description<'_> {
    /// Whether there is a cluster file.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// What is described, which hints name from now on. A namespace of the kubeconfig is not known here; once it is, this can be asked again.
    pub fn resolve(&self, global: &Global) -> Result<ClusterSpec, Error> {
        let arguments = self.arguments;
        let overrides = Overrides {
            name: arguments.name.clone(),
            namespace: global.namespace.clone(),
            image: arguments.image.clone(),
            masters: arguments.masters,
            workers: arguments.workers,
            worker_cores: arguments.worker_cores,
            worker_memory: arguments.worker_memory.clone(),
            default_cores: arguments.default_cores.clone(),
            zookeeper: arguments.zookeeper.clone(),
            ui_domain: arguments.ui_domain.clone(),
            history: arguments.history,
            connect: arguments.connect,
            metrics: arguments.metrics,
        };
        let source = self.file.as_ref().map(|(name, text)| Source { name, text });
        let spec = resolve(source, &overrides)?;
        hint::update(|invocation| {
            invocation.name = Some(spec.name.to_string());
            invocation.namespace = spec.namespace.as_ref().map(Namespace::to_string);
        });
        Ok(spec)
    }

    /// The same in the namespace that was found for it: names derived from it follow.
    fn resolve_in(&self, namespace: &Namespace, global: &Global) -> Result<ClusterSpec, Error> {
        self.resolve(&Global {
            namespace: Some(namespace.to_string()),
            ..global.clone()
        })
    }

    /// The same, from what the inventory of the cluster keeps if that is the origin.
    pub fn resolve_from(
        &mut self,
        origin: &Origin,
        name: &ClusterName,
        namespace: &Namespace,
        global: &Global,
    ) -> Result<ClusterSpec, Error> {
        if let Origin::Inventory(Some(cluster_file)) = origin {
            let source = format!("ConfigMap {}, {CLUSTER_FILE}", name.inventory());
            self.file = Some((source, cluster_file.clone()));
        }
        self.resolve_in(namespace, global)
    }

    /// What is described, and a connection to where it is meant to be: in the namespace that the arguments, the file or the kubeconfig names.
    pub async fn resolve_connected(&self, global: &Global) -> Result<(Cluster, ClusterSpec), Error> {
        let spec = self.resolve(global)?;
        let cluster = connect(&global.connect_options(spec.namespace.clone())).await?;
        let spec = match spec.namespace {
            Some(_) => spec,
            None => self.resolve_in(cluster.namespace(), global)?,
        };
        Ok((cluster, spec))
    }

    /// What is described, and its folder on this machine: in the namespace that the arguments or the file names, or in Kubernetes' own default.
    pub fn resolve_local(&self, global: &Global) -> Result<(ClusterDir, ClusterSpec), Error> {
        let named = self.resolve(global)?.namespace;
        let namespace = local_namespace(named.as_ref().map(Namespace::as_str))?;
        let spec = self.resolve_in(&namespace, global)?;
        Ok((Store::open()?.cluster(&namespace, &spec.name), spec))
    }
}

impl SpecArguments {
    /// Reads the file and resolves.
    pub fn resolve(&self, global: &Global) -> Result<ClusterSpec, Error> {
        self.describe()?.resolve(global)
    }

    /// Reads the file.
    pub fn describe(&self) -> Result<Description<'_>, Error> {
        let file = self.file.as_ref().map(|path| {
            let name = if path.as_os_str() == "-" {
                "standard input".into()
            } else {
                path.display().to_string()
            };
            let text = self.read(path, &name)?;
            Ok::<_, Error>((name, text))
        });
        Ok(Description {
            arguments: self,
            file: file.transpose()?,
        })
    }

    fn read(&self, path: &PathBuf, name: &str) -> Result<String, Error> {
        let bytes = if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).map(|_| bytes)
        } else {
            std::fs::read(path)
        };
        let bytes = bytes.map_err(|error| Error::Usage {
            message: format!("failed to read the cluster file {name}: {error}"),
            help: "name a file with -f, or leave it out for the defaults".into(),
        })?;
        String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
            Error::Usage {
                message: format!("failed to read the cluster file {name}: line {line} is not UTF-8"),
                help: "save the file as UTF-8".into(),
            }
        })
    }
}
