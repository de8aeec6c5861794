//! The arguments that describe a cluster, shared by create and render.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;

use super::local_namespace;
use crate::commands::arguments::Global;
use crate::commands::heading;
use crate::console::hint;
use crate::lifecycle::differences::Origin;
use crate::lifecycle::generations::Generation;
use crate::lifecycle::inventory::{existing, takes_writes};
use crate::lifecycle::{Error, generations};
use crate::platform::Platform;
use crate::platform::kubernetes::{KubernetesPlatform, connect};
use crate::platform::local::LocalPlatform;
use crate::platform::local::store::Store;
use crate::render::inventory::CLUSTER_FILE;
use crate::spec::ClusterSpec;
use crate::spec::names::Namespace;
use crate::spec::resolve::{Overrides, Source, resolve};
use crate::spec::words::listed;

#[derive(Clone, Debug, Args)]
pub struct SpecArguments {
    /// Name of the cluster [default: spark]
    pub name: Option<String>,
    /// Cluster file, or `-` for standard input; flags override it
    #[arg(short, long, value_name = "FILE", help_heading = heading::CLUSTER)]
    pub file: Option<PathBuf>,
    /// Spark image
    #[arg(long, help_heading = heading::CLUSTER)]
    pub image: Option<String>,
    /// Number of masters [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::master_count(), help_heading = heading::CLUSTER)]
    pub masters: Option<u32>,
    /// External ZooKeeper: HOST:PORT,… and an optional /chroot
    #[arg(long, value_name = "SERVERS", help_heading = heading::CLUSTER)]
    pub zookeeper: Option<String>,
    /// Domain of the web UIs [default: k8s]
    #[arg(long, value_name = "DOMAIN", help_heading = heading::CLUSTER)]
    pub ui_domain: Option<String>,
    /// Number of workers [default: 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::worker_count(), help_heading = heading::WORKERS)]
    pub workers: Option<u32>,
    /// Cores of each worker [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::core_count(), help_heading = heading::WORKERS)]
    pub worker_cores: Option<u32>,
    /// Memory of each worker's pod, such as 4Gi or 4g [default: 2Gi]
    #[arg(long, value_name = "SIZE", help_heading = heading::WORKERS)]
    pub worker_memory: Option<String>,
    /// Cores of an application that sets none, or `all` [default: half]
    #[arg(long, value_name = "N", help_heading = heading::WORKERS)]
    pub default_cores: Option<String>,
    /// Run a history server, and write event logs
    #[arg(long, help_heading = heading::SERVICES)]
    pub history: bool,
    /// Run a Spark Connect server for remote clients
    #[arg(long, help_heading = heading::SERVICES)]
    pub connect: bool,
    /// Expose metrics for Prometheus
    #[arg(long, help_heading = heading::SERVICES)]
    pub metrics: bool,
}

/// The arguments of a cluster that runs on Kubernetes or on this machine.
#[derive(Debug, Args)]
pub struct PlacedSpecArguments {
    #[command(flatten)]
    spec: SpecArguments,
    /// Spark for a local cluster [default: SPARK_HOME, PATH, the cache]
    ///
    /// `sparkha local fetch` downloads Spark into the cache.
    #[arg(long, value_name = "FOLDER", help_heading = heading::CLUSTER)]
    spark_home: Option<PathBuf>,
}

/// The arguments with the text of their cluster file, which is read only once because it may be standard input.
pub struct Description<'a> {
    arguments: &'a SpecArguments,
    spark_home: Option<&'a PathBuf>,
    /// Its name in messages, and its text.
    file: Option<(String, String)>,
    /// The cluster that the name resolves to, if resolved.
    generation: Option<Generation>,
}

impl Description<'_> {
    /// The described cluster, which subsequent hints contain. The kubeconfig's namespace is not known yet; call this again once it is.
    pub fn resolve(&self, global: &Global) -> Result<ClusterSpec, Error> {
        let arguments = self.arguments;
        let generation = self.generation.as_ref();
        let name = generation.map(|generation| generation.platform.name().to_string());
        let namespace = generation.map(|generation| generation.platform.namespace().to_string());
        let overrides = Overrides {
            name: name.or_else(|| arguments.name.clone()),
            alias: generation.and_then(|generation| generation.alias.clone()),
            namespace: namespace.or_else(|| global.namespace.clone()),
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

    /// The described cluster: in the namespace of the arguments, the file or the kubeconfig, or on this machine.
    pub async fn platform(&self, global: &Global) -> Result<Rc<dyn Platform>, Error> {
        let ClusterSpec { name, namespace, .. } = self.resolve(global)?;
        Ok(match global.local {
            true => {
                let namespace = local_namespace(namespace.as_ref().map(Namespace::as_str))?;
                let dir = Store::open()?.cluster(&namespace, &name);
                Rc::new(LocalPlatform::new(dir, self.spark_home.cloned()))
            }
            false => {
                let cluster = connect(&global.connect_options(namespace)).await?;
                Rc::new(KubernetesPlatform::new(&cluster, &name))
            }
        })
    }

    /// Sets the described cluster, which overrides the arguments and the file.
    pub fn set_generation(&mut self, generation: Generation) {
        self.generation = Some(generation);
    }

    /// Resolves the name, and sets the described cluster.
    pub async fn find(&mut self, global: &Global) -> Result<Generation, Error> {
        let generation = generations::find(self.platform(global).await?).await?;
        self.set_generation(generation.clone());
        Ok(generation)
    }

    /// The source of the cluster before flags: the cluster file, or the one in the inventory.
    pub async fn origin(&mut self, platform: &dyn Platform) -> Result<Origin, Error> {
        // The name of the inventory's cluster file in messages.
        let kept_in = format!("ConfigMap {}, {CLUSTER_FILE}", platform.name().inventory());
        if self.file.as_ref().is_some_and(|(source, _)| *source != kept_in) {
            return Ok(Origin::File);
        }
        takes_writes(platform).await?;
        let kept = existing(platform).await?.and_then(|inventory| inventory.cluster_file);
        self.file = kept.clone().map(|text| (kept_in, text));
        Ok(Origin::Inventory(kept))
    }
}

impl PlacedSpecArguments {
    /// Reads the file. Refuses --spark-home without --local: clap's `requires` would miss a global flag before the subcommand.
    pub fn describe(&self, global: &Global) -> Result<Description<'_>, Error> {
        if self.spark_home.is_some() && !global.local {
            return Err(super::bad_flag("--spark-home", "requires --local"));
        }
        let spark_home = self.spark_home.as_ref();
        Ok(Description {
            spark_home,
            ..self.spec.describe()?
        })
    }
}

impl SpecArguments {
    /// Reads the file and resolves.
    pub fn resolve(&self, global: &Global) -> Result<ClusterSpec, Error> {
        self.describe()?.resolve(global)
    }

    /// Reads the file.
    fn describe(&self) -> Result<Description<'_>, Error> {
        Ok(Description {
            arguments: self,
            spark_home: None,
            file: self
                .file
                .as_deref()
                .map(|path| read("cluster file", path))
                .transpose()?,
            generation: None,
        })
    }
}

/// Warns of secrets that the cluster file has in plain text.
pub fn warn_of_secrets(spec: &ClusterSpec) {
    let names: Vec<_> = spec.plain_secrets().into_iter().collect();
    if !names.is_empty() {
        tracing::warn!(
            "env has {} in plain text: everyone who may read ConfigMaps or pods sees it; use secretKeyRef",
            listed(&names)
        );
    }
}

/// The name of a file in messages, and its text. `what` is what the file has.
pub(super) fn read(what: &str, path: &Path) -> Result<(String, String), Error> {
    let (name, bytes) = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().read_to_end(&mut bytes);
        ("standard input".into(), read.map(|_| bytes))
    } else {
        (path.display().to_string(), std::fs::read(path))
    };
    let bytes = bytes.map_err(|error| Error::Usage {
        message: format!("failed to read the {what} {name}: {error}"),
        help: match what {
            "cluster file" => "set a file with -f, or omit it for the defaults".into(),
            _ => "pass a file that you can read, or `-` for standard input".into(),
        },
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        Error::Usage {
            message: format!("failed to read the {what} {name}: line {line} is not UTF-8"),
            help: "save the file as UTF-8".into(),
        }
    })?;
    Ok((name, text))
}
