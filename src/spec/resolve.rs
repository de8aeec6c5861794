//! Resolves flags, cluster file and defaults (in that order of precedence) to a [`ClusterSpec`], or reports all mistakes at once.

mod connect;
mod executors;
mod history;
mod network_policy;
mod pods;
mod recovery;
pub mod rules;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub use super::overrides::Overrides;
pub use pods::RESERVED_VOLUMES;
pub use rules::REDACTED;

use super::file::merge;
use super::file::tree::{Positions, join};
use super::file::{self, Amount, ClusterFile, EnvFile, Scalar};
use super::image::ImageReference;
use super::names::{ClusterName, Namespace, UiDomain, is_dns_subdomain};
use super::problem::{Location, Problem, Problems};
use super::quantity::{Cpu, Memory, QuantityError};
use super::version::has_tls;
use super::{
    Authentication, Autoscale, ClusterSpec, EnvValue, ExecutorsFile, Image, Masters, Metrics, S3, S3Secret,
    ServiceType, VolumeSource, WebUi, Workers, caps,
};

/// The image of the newest Spark that sparkha was tested with.
pub const DEFAULT_IMAGE: &str = "docker.io/apache/spark:4.3.0";
/// Default name of a cluster.
pub const DEFAULT_NAME: &str = "spark";
const DEFAULT_FAILOVER_SECONDS: u32 = 2;
/// Longer than most tasks, and shorter than the usual time limits for draining a node.
const DEFAULT_DRAIN_SECONDS: u32 = 300;
const DEFAULT_CPU_PERCENT: u32 = 80;
/// A larger number of workers is considered a typo.
pub const MAX_WORKERS: u32 = 1000;
/// Valid numbers of masters.
pub const MASTERS: RangeInclusive<u32> = 1..=7;
/// Default shuffle space of a worker: enough for small jobs, too little to fill a node's disk.
const DEFAULT_SHUFFLE: Memory = Memory::from_mib(20 * 1024);

/// The text of the cluster file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name in messages.
    pub name: &'a str,
    pub text: &'a str,
}

/// Resolves the desired cluster.
pub fn resolve(source: Option<Source<'_>>, flags: &Overrides) -> Result<ClusterSpec, Problems> {
    let read = source.map(|source| file::read(source.text)).unwrap_or_default();
    let cluster_file = merge::cluster_file(read.value, flags);
    let paths = read.problems.iter().filter_map(|problem| match &problem.location {
        Location::File { path, .. } => Some(path.clone()),
        Location::Flag(_) => None,
    });
    let mut resolver = Resolver {
        invalid: paths.collect(),
        positions: read.positions,
        problems: read.problems,
    };
    let spec = resolver.spec(read.file, flags).map(|spec| ClusterSpec {
        cluster_file: spec.plain_secrets().is_empty().then_some(cluster_file),
        ..spec
    });
    let mut problems = resolver.problems;
    if problems.is_empty()
        && let Some(spec) = spec
    {
        return Ok(spec);
    }
    problems.sort_by(|a, b| a.location.cmp(&b.location));
    Err(Problems {
        file: source.map_or_else(String::new, |source| source.name.to_owned()),
        list: problems,
    })
}

/// The size of executors that a file asks for, without its mistakes.
pub fn executor_request(file: &ClusterFile) -> caps::ExecutorRequest {
    let mut resolver = Resolver::default();
    let conf = resolver.spark_conf(file.spark_conf.clone());
    let limit = resolver.core_limit(file.default_cores.as_ref(), &Overrides::default(), &conf);
    let off_heap_share = file.workers.as_ref().and_then(|workers| workers.off_heap_share);
    resolver.executor_request(&conf, off_heap_share, limit.unwrap_or(executors::CoreLimit::Default))
}

/// Resolves values, and collects problems.
#[derive(Default)]
struct Resolver {
    positions: Positions,
    /// Paths of values that the check against the schema has left out.
    invalid: Vec<String>,
    problems: Vec<Problem>,
}

impl Resolver {
    /// `None` only if there are problems.
    fn spec(&mut self, file: ClusterFile, flags: &Overrides) -> Option<ClusterSpec> {
        let name = self.name(&file, flags);
        let namespace = self.namespace(&file, flags);
        let image = self.image(&file, flags);
        let count = self.masters_count(&file, flags);
        let recovery = self.recovery(&file, flags, count, name.as_ref(), namespace.as_ref());
        let masters = self.masters(&file, count);
        let spark_conf = self.spark_conf(file.spark_conf.clone());
        let core_limit = self.core_limit(file.default_cores.as_ref(), flags, &spark_conf);
        let workers = self.workers(
            &file,
            flags,
            &spark_conf,
            core_limit.unwrap_or(executors::CoreLimit::Default),
        );
        let dynamic_allocation = self.dynamic_allocation(file.dynamic_allocation);
        let env = self.env("env", file.env.unwrap_or_default());
        let s3 = file.s3.map(|s3| self.s3(s3));
        let authentication = self.authentication(file.authentication.unwrap_or_default());
        let spark_version = image
            .as_ref()
            .and_then(|image| image.name.spark_version().map(str::to_owned));
        let tls = file.tls.map(|tls| self.tls(tls, spark_version.as_deref()));
        let web_ui = self.web_ui(file.web_ui.unwrap_or_default(), flags);
        let network_policy = self.network_policy(file.network_policy.unwrap_or_default());
        let history = file::Feature::settings(file.history, flags.history);
        let history = history.map(|history| self.history(history, s3.is_some(), &spark_conf));
        let connect = file::Feature::settings(file.connect, flags.connect);
        let connect =
            connect.and_then(|connect| self.connect(connect, workers.as_ref(), authentication != Authentication::Off));
        let default_cores = workers
            .as_ref()
            .and_then(|workers| self.default_cores(core_limit?, workers, connect.as_ref()));
        let labels = self.labels("labels", file.labels.unwrap_or_default());
        let annotations = self.annotations("annotations", file.annotations.unwrap_or_default());
        Some(ClusterSpec {
            name: name?,
            alias: flags.alias.clone(),
            namespace,
            spark_version,
            image: image?,
            masters: masters?,
            workers: workers?,
            recovery: recovery?,
            spark_conf,
            default_cores,
            dynamic_allocation,
            env,
            s3,
            authentication,
            tls: tls.flatten(),
            web_ui,
            network_policy,
            history: history.flatten(),
            connect,
            metrics: file::Feature::settings(file.metrics, flags.metrics).map(|metrics| Metrics {
                pod_monitor: metrics.pod_monitor.unwrap_or(false),
            }),
            labels,
            annotations,
            cluster_file: None,
        })
    }

    /// A mistake, unless a value that was left out caused it.
    fn problem(&mut self, path: &str, message: impl Into<String>, help: impl Into<String>) {
        let is_at = |inner: &String| {
            inner
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if self.invalid.iter().any(is_at) {
            return;
        }
        self.problems
            .push(Problem::at(self.positions.nearest(path), path, message).help(help));
    }

    /// A mistake in a value that a flag may have set.
    fn problem_in(
        &mut self,
        path: &str,
        flag: Option<&'static str>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        match flag {
            Some(flag) => self.problems.push(Problem::flag(flag, message).help(help)),
            None => self.problem(path, message, help),
        }
    }

    /// A parsed value, or `None` with a mistake and this remedy.
    fn valid<T>(
        &mut self,
        path: &str,
        flag: Option<&'static str>,
        parsed: Result<T, impl ToString>,
        help: impl Into<String>,
    ) -> Option<T> {
        parsed
            .map_err(|error| self.problem_in(path, flag, error.to_string(), help))
            .ok()
    }

    /// A parsed amount, or `None` with a mistake.
    fn quantity<T>(&mut self, path: &str, flag: Option<&'static str>, parsed: Result<T, QuantityError>) -> Option<T> {
        let help = parsed.as_ref().err().map(QuantityError::help).unwrap_or_default();
        self.valid(path, flag, parsed, help)
    }

    /// Reports a violated rule.
    fn obey(&mut self, path: &str, rule: rules::Rule) {
        if let Err((message, help)) = rule {
            self.problem(path, message, help);
        }
    }

    fn name(&mut self, file: &ClusterFile, flags: &Overrides) -> Option<ClusterName> {
        let (text, flag) = match (&flags.name, &file.name) {
            (Some(name), _) => (name.as_str(), Some("NAME")),
            (None, Some(name)) => (name.as_str(), None),
            (None, None) => (DEFAULT_NAME, None),
        };
        self.valid(
            "name",
            flag,
            ClusterName::parse(text),
            "choose a name like spark or etl-2",
        )
    }

    fn namespace(&mut self, file: &ClusterFile, flags: &Overrides) -> Option<Namespace> {
        let (text, flag) = match (&flags.namespace, &file.namespace) {
            (Some(name), _) => (name, Some("--namespace")),
            (None, Some(name)) => (name, None),
            (None, None) => return None,
        };
        let help = "name a namespace like data-team";
        self.valid("namespace", flag, Namespace::parse(text), help)
    }

    fn image(&mut self, file: &ClusterFile, flags: &Overrides) -> Option<Image> {
        let flag = flags.image.as_ref().map(|_| "--image");
        let name = flags.image.as_ref().or(file.image.as_ref());
        let name = name.map_or(DEFAULT_IMAGE, String::as_str).parse::<ImageReference>();
        let name = self.valid("image", flag, name, format!("write it like {DEFAULT_IMAGE}"));
        let pull_secrets = file.image_pull_secrets.clone().unwrap_or_default();
        for (at, secret) in pull_secrets.iter().enumerate() {
            self.object_name(&format!("imagePullSecrets[{at}]"), secret);
        }
        Some(Image {
            name: name?,
            pull_policy: file.image_pull_policy,
            pull_secrets,
        })
    }

    fn masters_count(&mut self, file: &ClusterFile, flags: &Overrides) -> u32 {
        let in_file = file.masters.as_ref().and_then(|masters| masters.count);
        let flag = flags.masters.map(|_| "--masters");
        let count = flags.masters.or(in_file).unwrap_or(3);
        if !MASTERS.contains(&count) {
            self.problem_in(
                "masters.count",
                flag,
                format!("{count} masters are not supported"),
                "choose 1 to 7; 3 is the usual number for high availability",
            );
        }
        count
    }

    fn masters(&mut self, file: &ClusterFile, count: u32) -> Option<Masters> {
        let masters = file.masters.clone().unwrap_or_default();
        if masters.storage.is_some() && count > 1 {
            self.problem(
                "masters.storage",
                "multiple masters keep their state in ZooKeeper, not in files",
                "remove it, or set masters.count to 1",
            );
        }
        let daemon_memory = self.memory("masters.daemonMemory", &masters.daemon_memory, caps::MASTER_HEAP);
        let defaults = pods::Defaults {
            cpu_limit: Cpu::from_cores(1),
            cpu_request: Cpu::from_millis(100),
            memory: Memory::from_mib(1024),
        };
        let pod = self.pod("masters", masters.pod, defaults);
        self.heap_fits("masters", "daemonMemory", daemon_memory, pod.resources.memory_limit);
        Some(Masters {
            count,
            daemon_memory,
            pod,
        })
    }

    fn workers(
        &mut self,
        file: &ClusterFile,
        flags: &Overrides,
        spark_conf: &BTreeMap<String, String>,
        core_limit: executors::CoreLimit,
    ) -> Option<Workers> {
        let workers = file.workers.clone().unwrap_or_default();
        let autoscale = workers.autoscale.map(|autoscale| Autoscale {
            min: autoscale.min,
            max: autoscale.max,
            cpu_percent: autoscale.cpu_percent.unwrap_or(DEFAULT_CPU_PERCENT),
        });
        let count_flag = flags.workers.map(|_| "--workers");
        let said = flags.workers.or(workers.count);
        let count = match autoscale {
            Some(autoscale) => {
                self.autoscale(autoscale, said, count_flag);
                autoscale.min
            }
            None => said.unwrap_or(2),
        };
        if count > MAX_WORKERS {
            self.problem_in(
                "workers.count",
                count_flag,
                format!("{count} workers are not supported"),
                format!("choose up to {MAX_WORKERS}"),
            );
        }
        let cores_flag = flags.worker_cores.map(|_| "--worker-cores");
        let memory_flag = flags.worker_memory.as_ref().map(|_| "--worker-memory");
        let cores = match flags.worker_cores {
            Some(cores) => Some(Cpu::from_cores(cores)),
            None => self.shorthand("workers", "cores", "cpu", &workers.cores, &workers.pod, Self::cpu),
        };
        let memory = match &flags.worker_memory {
            Some(text) => self.quantity("", memory_flag, Memory::parse(text)),
            None => self.shorthand(
                "workers",
                "memory",
                "memory",
                &workers.memory,
                &workers.pod,
                Self::memory_of,
            ),
        };
        let mut pod_file = workers.pod;
        if let Some(limits) = pod_file.resources.as_mut().and_then(|r| r.limits.as_mut()) {
            // `cores` and `memory` have these values now, or flags replaced them.
            (limits.cpu, limits.memory) = (None, None);
        }
        let cpu_limit = cores.unwrap_or(Cpu::from_cores(1));
        let defaults = pods::Defaults {
            cpu_limit,
            cpu_request: Cpu::from_millis((cpu_limit.millis() / 4).max(1)),
            memory: memory.unwrap_or(caps::WORKER),
        };
        let daemon_memory = self.memory("workers.daemonMemory", &workers.daemon_memory, caps::DAEMON_HEAP);
        let pod = self.pod("workers", pod_file, defaults);
        let request = self.executor_request(spark_conf, workers.off_heap_share, core_limit);
        let fit = caps::fit(
            pod.resources.cpu_limit,
            pod.resources.memory_limit,
            daemon_memory,
            request,
        );
        let fit = match fit {
            Ok(fit) => Some(fit),
            Err(error) => {
                let (path, flag) = match error {
                    caps::CapError::NoCore { .. } => ("workers.cores", cores_flag),
                    caps::CapError::NoMemory { .. } => ("workers.memory", memory_flag),
                    caps::CapError::ExecutorCores { .. } => (executors::CORES_PATH, None),
                    caps::CapError::SmallHeap { .. } | caps::CapError::ExecutorMemory { .. } => {
                        (executors::MEMORY_PATH, None)
                    }
                };
                self.problem_in(path, flag, error.to_string(), error.help());
                None
            }
        };
        let shuffle = match workers.shuffle {
            Some(source) => self.one_source("workers.shuffle", source),
            None => Some(VolumeSource::empty_dir(DEFAULT_SHUFFLE)),
        };
        let fit = fit?;
        Some(Workers {
            count,
            autoscale,
            drain_seconds: workers.drain_seconds.unwrap_or(DEFAULT_DRAIN_SECONDS),
            daemon_memory,
            offer: fit.offer,
            executor: fit.executor,
            executors: fit.executors,
            shuffle: shuffle?,
            pod,
        })
    }

    fn autoscale(&mut self, autoscale: Autoscale, count: Option<u32>, flag: Option<&'static str>) {
        if count.is_some() {
            self.problem_in(
                "workers.count",
                flag,
                "workers.autoscale sets the number of workers",
                "remove this, or workers.autoscale",
            );
        }
        let Autoscale { min, max, .. } = autoscale;
        if min > max {
            self.problem(
                "workers.autoscale.min",
                format!("{min} is more than workers.autoscale.max, {max}"),
                "swap them",
            );
        }
    }

    fn dynamic_allocation(&mut self, file: Option<file::DynamicAllocationFile>) -> Option<ExecutorsFile> {
        let limits = match file? {
            file::DynamicAllocationFile::Enabled(enabled) => return enabled.then(ExecutorsFile::default),
            file::DynamicAllocationFile::Between(limits) => limits,
        };
        if let (Some(min), Some(max)) = (limits.min_executors, limits.max_executors)
            && min > max
        {
            self.problem(
                "dynamicAllocation.minExecutors",
                format!("{min} is more than dynamicAllocation.maxExecutors, {max}"),
                "swap them",
            );
        }
        if limits.max_executors == Some(0) {
            self.problem(
                "dynamicAllocation.maxExecutors",
                "an application cannot run without executors",
                "choose at least 1",
            );
        }
        Some(limits)
    }

    /// A limit that two keys can set.
    fn shorthand<T: PartialEq + Copy>(
        &mut self,
        part: &str,
        short: &str,
        long: &str,
        value: &Option<Amount>,
        pod: &file::PodFile,
        read: impl Fn(&mut Self, &str, &Amount) -> Option<T>,
    ) -> Option<T> {
        let limits = pod.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        let in_limits = limits.and_then(|limits| match long {
            "cpu" => limits.cpu.as_ref(),
            _ => limits.memory.as_ref(),
        });
        let short_path = join(part, short);
        let long_path = format!("{part}.resources.limits.{long}");
        let first = value.as_ref().and_then(|value| read(self, &short_path, value));
        let second = in_limits.and_then(|value| read(self, &long_path, value));
        if let (Some(first), Some(second)) = (first, second)
            && first != second
        {
            self.problem(
                &short_path,
                format!("this and {long_path} set the same limit to different values"),
                "keep one of them",
            );
        }
        first.or(second)
    }

    fn spark_conf(&mut self, conf: Option<BTreeMap<String, Scalar>>) -> BTreeMap<String, String> {
        let conf = conf.unwrap_or_default();
        for (key, value) in &conf {
            self.obey(&join("sparkConf", key), rules::spark_conf(key, &value.to_string()));
        }
        conf.into_iter().map(|(key, value)| (key, value.to_string())).collect()
    }

    fn s3(&mut self, s3: file::S3File) -> S3 {
        if let Some(endpoint) = &s3.endpoint
            && !rules::is_http_url(endpoint)
        {
            self.problem(
                "s3.endpoint",
                format!("`{endpoint}` is not an http or https URL"),
                "write it like https://minio.example:9000",
            );
        }
        let secret = s3.secret.map(|secret| {
            self.object_name("s3.secret.name", &secret.name);
            S3Secret {
                name: secret.name,
                access_key: secret.access_key.unwrap_or_else(|| "AWS_ACCESS_KEY_ID".into()),
                secret_key: secret.secret_key.unwrap_or_else(|| "AWS_SECRET_ACCESS_KEY".into()),
            }
        });
        S3 {
            endpoint: s3.endpoint,
            region: s3.region,
            path_style: s3.path_style_access.unwrap_or(false),
            secret,
        }
    }

    fn authentication(&mut self, file: file::AuthenticationFile) -> Authentication {
        if let Some(secret) = &file.secret {
            self.object_name("authentication.secret", secret);
        }
        match (file.enabled.unwrap_or(true), file.secret) {
            (true, Some(name)) => Authentication::Secret { name },
            (true, None) => Authentication::Own,
            (false, None) => Authentication::Off,
            (false, Some(_)) => {
                self.problem(
                    "authentication.secret",
                    "a secret has no effect without authentication",
                    "remove it, or authentication.enabled",
                );
                Authentication::Off
            }
        }
    }

    fn tls(&mut self, tls: file::TlsFile, spark_version: Option<&str>) -> Option<String> {
        let Some(secret) = tls.secret else {
            self.problem(
                "tls",
                "tls.secret is missing",
                "name a Secret with tls.crt, tls.key and ca.crt in tls.secret, or remove tls",
            );
            return None;
        };
        self.object_name("tls.secret", &secret);
        if let Some(version) = spark_version.filter(|version| !has_tls(version)) {
            self.problem(
                "tls",
                format!("Spark {version} does not support TLS"),
                "remove it, or use Spark 4.0 or newer",
            );
        }
        Some(secret)
    }

    fn web_ui(&mut self, web_ui: file::WebUiFile, flags: &Overrides) -> WebUi {
        let flag = flags.ui_domain.as_ref().map(|_| "--ui-domain");
        let domain = flags.ui_domain.clone().or(web_ui.domain);
        let domain = domain.and_then(|domain| {
            let help = "write it like k8s or spark.example.org";
            self.valid("webUi.domain", flag, UiDomain::parse(&domain), help)
        });
        let service_type = web_ui.service_type.unwrap_or(ServiceType::ClusterIp);
        if web_ui.node_port.is_some() && service_type == ServiceType::ClusterIp {
            self.problem(
                "webUi.nodePort",
                "a Service of type ClusterIP cannot have a node port",
                "set webUi.serviceType to NodePort, or remove it",
            );
        }
        if web_ui.load_balancer_ip.is_some() && service_type != ServiceType::LoadBalancer {
            self.problem(
                "webUi.loadBalancerIP",
                "only a Service of type LoadBalancer can have this address",
                "set webUi.serviceType to LoadBalancer, or remove it",
            );
        }
        if let Some(ip) = &web_ui.load_balancer_ip
            && ip.parse::<std::net::IpAddr>().is_err()
        {
            self.problem(
                "webUi.loadBalancerIP",
                format!("`{ip}` is not an IP address"),
                "write it like 192.0.2.10",
            );
        }
        WebUi {
            domain: domain.unwrap_or_default(),
            service_type,
            node_port: web_ui.node_port,
            load_balancer_ip: web_ui.load_balancer_ip,
            annotations: self.annotations("webUi.annotations", web_ui.annotations.unwrap_or_default()),
        }
    }

    fn env(&mut self, path: &str, env: BTreeMap<String, EnvFile>) -> BTreeMap<String, EnvValue> {
        let mut values = BTreeMap::new();
        for (name, value) in env {
            let path = join(path, &name);
            self.obey(&path, rules::env_name(&name));
            let value = match value {
                EnvFile::Scalar(scalar) => EnvValue::Value(scalar.to_string()),
                EnvFile::From(from) => match (from.secret_key_ref, from.config_map_key_ref) {
                    (Some(key), None) => EnvValue::SecretKey {
                        name: key.name,
                        key: key.key,
                    },
                    (None, Some(key)) => EnvValue::ConfigMapKey {
                        name: key.name,
                        key: key.key,
                    },
                    _ => {
                        self.problem(
                            &path,
                            "exactly one source is required",
                            "set a string, secretKeyRef or configMapKeyRef",
                        );
                        continue;
                    }
                },
            };
            values.insert(name, value);
        }
        values
    }

    fn labels(&mut self, path: &str, labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
        for (key, value) in &labels {
            self.obey(&join(path, key), rules::label(key, value));
        }
        labels
    }

    fn annotations(&mut self, path: &str, annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
        for key in annotations.keys() {
            self.obey(&join(path, key), rules::metadata_key(key));
        }
        annotations
    }

    fn object_name(&mut self, path: &str, name: &str) {
        if !is_dns_subdomain(name) {
            self.problem(
                path,
                format!("`{name}` is not a valid name of a Kubernetes object"),
                "use lower-case letters, digits, `-` and `.`",
            );
        }
    }

    fn memory_of(&mut self, path: &str, value: &Amount) -> Option<Memory> {
        self.quantity(path, None, Memory::parse(&value.to_string()))
    }

    fn cpu(&mut self, path: &str, value: &Amount) -> Option<Cpu> {
        self.quantity(path, None, Cpu::parse(&value.to_string()))
    }

    fn memory(&mut self, path: &str, value: &Option<Amount>, default: Memory) -> Memory {
        let read = value.as_ref().and_then(|value| self.memory_of(path, value));
        read.unwrap_or(default)
    }

    fn heap_fits(&mut self, part: &str, key: &str, heap: Memory, limit: Memory) {
        if heap >= limit {
            self.problem(
                &join(part, key),
                format!("a heap of {heap} does not fit into a pod of {limit}"),
                format!("lower it, or raise {part}.resources.limits.memory"),
            );
        }
    }
}

#[cfg(test)]
mod tests;
