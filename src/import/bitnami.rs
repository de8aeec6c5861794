//! The values of Bitnami's Spark chart. [`PARAMETERS`] has every parameter that the chart documents, and some older names of them.

mod pods;
mod workers;

use serde_json::{Map, Value, json};

use super::{Draft, Import, text};
use crate::spec::file::tree::join;
use crate::spec::image::ImageReference;
use crate::spec::names::ClusterName;
use crate::spec::version::{too_old_spark, unsupported_spark};

/// What becomes of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Handling {
    /// [`import`] carries it over, if its value allows.
    Carry,
    /// Nothing in the cluster file has its effect, for this reason.
    No(&'static str),
    /// Its effect is not needed, or not wanted, for this reason.
    Ignore(&'static str),
}
use Handling::{Carry, Ignore, No};

const FIXED_PORTS: Handling = Ignore("Spark's ports are fixed: 7077 and 8080 at masters, 7078 and 8081 at workers");
const OWN_PROBES: Handling = Ignore("sparkha sets probes that know masters and workers");
const RESTRICTED: Handling = Ignore("the pods run as user 185 and pass the restricted Pod Security level");
const NO_ENV_FROM: Handling = No("name each variable in env, with secretKeyRef or configMapKeyRef");
const IN_AN_IMAGE: Handling = No("put it into an image of your own, and set image");
const BY_KUBECTL: Handling = No("apply these objects with kubectl");
const TLS_OF_PEM: Handling = No("tls.secret takes a Secret with PEM files, as cert-manager creates it");
const PUBLISHED_BY_ROUTES: Handling = No("`sparkha route render --format ingress` prints an Ingress for every web UI");
const OWN_MONITOR: &str = "write a PodMonitor of your own, and leave metrics.podMonitor out";
const OWN_ACCOUNT: Handling = Ignore("sparkha creates a ServiceAccount without permissions");

const UNKNOWN: &str = "the chart documents no such parameter";
const OFF: &str = "it is off";

/// Parameters of masters and workers, after `master.` or `worker.`. A parameter stands for everything below it.
const OF_PODS: [(&str, Handling); 51] = [
    (
        "existingConfigmap",
        No("`sparkha import conf` reads the files that it has"),
    ),
    (
        "configurationConfigMap",
        No("`sparkha import conf` reads the files that it has"),
    ),
    ("containerPorts", FIXED_PORTS),
    ("webPort", FIXED_PORTS),
    ("clusterPort", FIXED_PORTS),
    (
        "automountServiceAccountToken",
        Ignore("Spark does not talk to the API server"),
    ),
    ("hostAliases", No("pods have no further lines in /etc/hosts; use DNS")),
    (
        "extraContainerPorts",
        Ignore("a port need not be declared to be reached"),
    ),
    ("extraPorts", Ignore("a port need not be declared to be reached")),
    ("daemonMemoryLimit", Carry),
    ("configOptions", Carry),
    ("extraEnvVars", Carry),
    ("extraEnvVarsCM", NO_ENV_FROM),
    ("extraEnvVarsSecret", NO_ENV_FROM),
    ("podSecurityContext", RESTRICTED),
    ("containerSecurityContext", RESTRICTED),
    ("securityContext", RESTRICTED),
    ("command", Ignore("sparkha starts masters and workers itself")),
    ("args", Ignore("sparkha starts masters and workers itself")),
    ("podAnnotations", Carry),
    ("podLabels", Carry),
    ("extraPodLabels", Carry),
    ("podAffinityPreset", No("write affinity, as in a pod's specification")),
    ("podAntiAffinityPreset", Carry),
    ("nodeAffinityPreset", Carry),
    ("affinity", Carry),
    ("nodeSelector", Carry),
    ("tolerations", Carry),
    (
        "updateStrategy",
        Ignore("sparkha replaces pods itself, in an order that keeps applications"),
    ),
    ("podManagementPolicy", Ignore("sparkha starts all pods at once")),
    ("priorityClassName", Carry),
    ("topologySpreadConstraints", Carry),
    ("schedulerName", No("pods use the default scheduler")),
    ("terminationGracePeriodSeconds", Carry),
    (
        "lifecycleHooks",
        No("sparkha uses the hooks itself, to hand over and to drain"),
    ),
    ("extraVolumes", Carry),
    ("extraVolumeMounts", Carry),
    ("extraVolumeClaimTemplates", Carry),
    ("resourcesPreset", Carry),
    ("resources", Carry),
    ("livenessProbe", OWN_PROBES),
    ("readinessProbe", OWN_PROBES),
    ("startupProbe", OWN_PROBES),
    ("customLivenessProbe", OWN_PROBES),
    ("customReadinessProbe", OWN_PROBES),
    ("customStartupProbe", OWN_PROBES),
    ("networkPolicy", Carry),
    ("sidecars", No("pods have no further containers")),
    ("initContainers", No("pods have no further containers")),
    (
        "pdb",
        Ignore("sparkha sets PodDisruptionBudgets by the number of masters and servers"),
    ),
    ("debug", Ignore("`sparkha logs` shows what the daemons write")),
];

/// All other parameters.
const PARAMETERS: [(&str, Handling); 54] = [
    ("global.imageRegistry", Carry),
    ("global.imagePullSecrets", Carry),
    (
        "global.defaultStorageClass",
        Ignore("each new claim names its storage class"),
    ),
    ("global.storageClass", Ignore("each new claim names its storage class")),
    ("global.security", Ignore("sparkha takes any image with Spark")),
    (
        "global.compatibility",
        Ignore("sparkha's pods are the same on every Kubernetes"),
    ),
    ("kubeVersion", Ignore("sparkha asks the API server")),
    (
        "nameOverride",
        Ignore("fullnameOverride or the release name the cluster"),
    ),
    ("fullnameOverride", Carry),
    ("namespaceOverride", Carry),
    ("commonLabels", Carry),
    ("commonAnnotations", Carry),
    (
        "clusterDomain",
        Ignore("names without the Kubernetes cluster's domain are enough"),
    ),
    ("extraDeploy", BY_KUBECTL),
    ("initScripts", IN_AN_IMAGE),
    ("initScriptsCM", IN_AN_IMAGE),
    ("initScriptsSecret", IN_AN_IMAGE),
    (
        "diagnosticMode",
        Ignore("`sparkha doctor` and `kubectl debug` diagnose pods as they run"),
    ),
    ("image.registry", Carry),
    ("image.repository", Carry),
    ("image.tag", Carry),
    ("image.digest", Carry),
    ("image.pullPolicy", Carry),
    ("image.pullSecrets", Carry),
    ("image.debug", Ignore("`sparkha logs` shows what the daemons write")),
    ("hostNetwork", RESTRICTED),
    ("worker.coreLimit", Carry),
    ("worker.memoryLimit", Carry),
    ("worker.replicaCount", Carry),
    ("worker.autoscaling", Carry),
    ("worker.javaOptions", Carry),
    (
        "worker.dir",
        Ignore("work folders are in an emptyDir; workers.shuffle is the volume for shuffle files"),
    ),
    (
        "security.passwordsSecretName",
        No("authentication.secret takes a Secret with the key spark.authenticate.secret"),
    ),
    ("security.rpc", Carry),
    ("security.storageEncryptionEnabled", Carry),
    ("security.certificatesSecretName", TLS_OF_PEM),
    ("security.ssl", TLS_OF_PEM),
    ("service.type", Carry),
    ("service.ports", FIXED_PORTS),
    ("service.webPort", FIXED_PORTS),
    ("service.clusterPort", FIXED_PORTS),
    ("service.nodePorts", Carry),
    ("service.clusterIP", Ignore("clients use the Service's name")),
    ("service.loadBalancerIP", Carry),
    (
        "service.loadBalancerSourceRanges",
        No("networkPolicy.webUisFrom says who may reach the web UIs"),
    ),
    (
        "service.externalTrafficPolicy",
        Ignore("web UIs do not look at the client's address"),
    ),
    ("service.annotations", Carry),
    (
        "service.extraPorts",
        Ignore("the Service leads to the leader's web UI only"),
    ),
    (
        "service.sessionAffinity",
        Ignore("the Service leads to the leader only"),
    ),
    (
        "service.sessionAffinityConfig",
        Ignore("the Service leads to the leader only"),
    ),
    (
        "service.headless",
        No("the headless Services have the cluster's annotations only"),
    ),
    ("ingress", PUBLISHED_BY_ROUTES),
    ("serviceAccount", OWN_ACCOUNT),
    ("metrics", Carry),
];

/// Parameters below one that is carried over or ignored, which have a rule of their own.
const EXCEPTIONS: [(&str, Handling); 6] = [
    (
        "serviceAccount.annotations",
        No("s3.secret has the keys of a store; the ServiceAccount has no annotations"),
    ),
    (
        "metrics.masterAnnotations",
        Ignore("sparkha sets the annotations for Prometheus"),
    ),
    (
        "metrics.workerAnnotations",
        Ignore("sparkha sets the annotations for Prometheus"),
    ),
    ("metrics.podMonitor.extraMetricsEndpoints", No(OWN_MONITOR)),
    ("metrics.podMonitor.namespace", No(OWN_MONITOR)),
    (
        "metrics.prometheusRule",
        No("write a PrometheusRule of your own; docs/operations.md names the metrics"),
    ),
];

/// Repositories of Bitnami's image, which is no longer published.
const OF_BITNAMI: [&str; 4] = [
    "bitnami/spark",
    "bitnamilegacy/spark",
    "bitnamisecure/spark",
    "bitnami-docker-spark",
];

/// What values leave to their chart.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChartDefaults<'a> {
    /// The release's name, if the values are those of a release.
    pub name: Option<&'a str>,
    /// The tag of the chart's default image.
    pub tag: Option<&'a str>,
}

/// The cluster that these values describe.
pub fn import(values: &Value, defaults: ChartDefaults<'_>) -> Import {
    let mut import = ChartImport {
        values: values.clone(),
        draft: Draft::new(),
    };
    import.report_fixed();
    import.names(defaults);
    import.image(defaults);
    import.metadata();
    import.pods();
    import.worker_size();
    import.security();
    import.service();
    import.network_policies();
    import.metrics();
    let rest = std::mem::take(&mut import.values);
    import.report_rest("", &rest);
    import.draft.finish()
}

/// The values that are not handled yet, and the cluster file so far.
struct ChartImport {
    values: Value,
    draft: Draft,
}

impl ChartImport {
    /// Removes and reports what is not carried over: by its rule, as a template, or as unknown.
    fn report_fixed(&mut self) {
        let values = std::mem::take(&mut self.values);
        let mut kept = json!({});
        self.sort_out("", None, values, &mut kept);
        self.values = kept;
    }

    /// `inherited` is the rule of the parameter that this path is inside of.
    fn sort_out(&mut self, path: &str, inherited: Option<Handling>, value: Value, kept: &mut Value) {
        if !is_set(&value) {
            return;
        }
        let rule = rule(path).or(inherited);
        let is_off = value["enabled"] == false;
        match (rule, value) {
            // A rule of its own may be below.
            (_, Value::Object(object)) if rule.is_none() || has_exception(path) => {
                for (key, value) in object {
                    self.sort_out(&join(path, &key), rule, value, kept);
                }
            }
            (Some(No(_) | Ignore(_)), _) if is_off => self.draft.ignored(path, OFF),
            (Some(No(reason)), _) => self.draft.no_counterpart(path, reason),
            (Some(Ignore(reason)), _) => self.draft.ignored(path, reason),
            (Some(Carry), value) if has_template(&value) => {
                self.draft
                    .no_counterpart(path, "it is a Helm template; write what it results in");
            }
            (Some(Carry), value) => {
                let place = path.split('.').fold(kept, |place, key| &mut place[key]);
                *place = value;
            }
            (None, _) => self.draft.no_counterpart(path, UNKNOWN),
        }
    }

    /// Reports values that have another form than the chart's.
    fn report_rest(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    self.report_rest(&join(path, key), value);
                }
            }
            value if is_set(value) => self
                .draft
                .no_counterpart(path, "its value has not the form that the chart documents"),
            _ => {}
        }
    }

    /// Takes a parameter that is set.
    fn take(&mut self, parameter: &str) -> Option<Value> {
        let pointer = format!("/{}", parameter.replace('.', "/"));
        let value = self.values.pointer_mut(&pointer)?.take();
        is_set(&value).then_some(value)
    }

    /// Takes a text, number or boolean. Reports any other value.
    fn text(&mut self, parameter: &str) -> Option<String> {
        let value = self.take(parameter)?;
        let text = text(&value);
        if text.is_none() {
            self.expected(parameter, "a text");
        }
        text
    }

    fn flag(&mut self, parameter: &str) -> Option<bool> {
        let value = self.take(parameter)?;
        let flag = value.as_bool().or_else(|| value.as_str()?.parse().ok());
        if flag.is_none() {
            self.expected(parameter, "true or false");
        }
        flag
    }

    fn list(&mut self, parameter: &str) -> Option<Vec<Value>> {
        match self.take(parameter)? {
            Value::Array(list) => Some(list),
            _ => {
                self.expected(parameter, "a list");
                None
            }
        }
    }

    fn object(&mut self, parameter: &str) -> Option<Map<String, Value>> {
        match self.take(parameter)? {
            Value::Object(object) => Some(object),
            _ => {
                self.expected(parameter, "a mapping");
                None
            }
        }
    }

    fn expected(&mut self, parameter: &str, what: &str) {
        self.draft.no_counterpart(parameter, format!("its value is not {what}"));
    }

    /// Carries a value over as it is.
    fn carry(&mut self, parameter: &str, path: &[&str]) {
        if let Some(value) = self.take(parameter) {
            self.draft.set(parameter, path, value);
        }
    }

    /// The chart's objects keep their names, so that both clusters can run side by side.
    fn names(&mut self, defaults: ChartDefaults<'_>) {
        let full = self.text("fullnameOverride");
        let named = match (&full, defaults.name) {
            (Some(full), _) => Some(("fullnameOverride", full.as_str())),
            (None, Some(release)) => Some(("the release's name", release)),
            (None, None) => None,
        };
        if let Some((setting, name)) = named {
            // The chart's own names begin with it, or with it and `-spark`.
            let name = match full.is_some() || name.contains("spark") {
                true => format!("{name}-ha"),
                false => name.to_owned(),
            };
            match ClusterName::parse(&name) {
                Ok(_) => self.draft.set(setting, &["name"], name),
                Err(error) => self.draft.no_counterpart(setting, error.to_string()),
            }
        }
        self.carry("namespaceOverride", &["namespace"]);
    }

    fn image(&mut self, defaults: ChartDefaults<'_>) {
        let registry = ["global.imageRegistry", "image.registry"]
            .map(|parameter| self.text(parameter).map(|registry| (parameter, registry)));
        let [global, own] = registry;
        if let (Some(_), Some((parameter, _))) = (&global, &own) {
            self.draft.ignored(parameter, "global.imageRegistry replaces it");
        }
        let registry = global.or(own);
        let repository = self.text("image.repository");
        let tag = self.text("image.tag");
        let digest = self.text("image.digest");
        let from_bitnami = match &repository {
            None => true,
            Some(repository) => OF_BITNAMI.iter().any(|of_bitnami| repository.ends_with(of_bitnami)),
        };
        if from_bitnami {
            let why = "Bitnami's image is no longer published; sparkha uses Apache's of the same version";
            if repository.is_some() {
                self.draft.ignored("image.repository", why);
            }
            if digest.is_some() {
                self.draft.ignored("image.digest", why);
            }
            match registry {
                Some((parameter, registry)) if registry == "docker.io" => self.draft.ignored(parameter, why),
                Some((parameter, _)) => {
                    self.draft
                        .no_counterpart(parameter, "copy Apache's image to this registry, and set image");
                }
                None => {}
            }
            let setting = if tag.is_some() {
                "image.tag"
            } else {
                "the chart's image"
            };
            let Some(tag) = tag.as_deref().or(defaults.tag) else {
                return;
            };
            let image: Option<ImageReference> = format!("spark:{tag}").parse().ok();
            match image.as_ref().and_then(ImageReference::version) {
                Some(version) if too_old_spark(version).is_some() => {
                    self.draft.no_counterpart(setting, too_old_image(version));
                }
                Some(version) => self
                    .draft
                    .set(setting, &["image"], format!("docker.io/apache/spark:{version}")),
                None => self.draft.no_counterpart(
                    setting,
                    format!("`{}` does not begin with a version of Spark", tag.escape_debug()),
                ),
            }
            return;
        }
        let mut image = String::new();
        for (given, before) in [
            (registry.as_ref().map(|(_, text)| text), ""),
            (repository.as_ref(), "/"),
            (tag.as_ref(), ":"),
            (digest.as_ref(), "@"),
        ] {
            if let Some(given) = given {
                if !image.is_empty() {
                    image.push_str(before);
                }
                image.push_str(given);
            }
        }
        let parts = [
            registry.map(|(parameter, _)| parameter),
            repository.map(|_| "image.repository"),
            tag.map(|_| "image.tag"),
            digest.map(|_| "image.digest"),
        ];
        let reference: Option<ImageReference> = image.parse().ok();
        let version = reference.as_ref().and_then(ImageReference::spark_version);
        let too_old = version.filter(|version| too_old_spark(version).is_some());
        for parameter in parts.into_iter().flatten() {
            match too_old {
                Some(version) => self.draft.no_counterpart(parameter, too_old_image(version)),
                None => self.draft.set(parameter, &["image"], image.as_str()),
            }
        }
    }

    fn metadata(&mut self) {
        self.carry("image.pullPolicy", &["imagePullPolicy"]);
        let secrets: Vec<_> = ["global.imagePullSecrets", "image.pullSecrets"]
            .into_iter()
            .filter_map(|parameter| Some((parameter, self.list(parameter)?)))
            .collect();
        let names = secrets.iter().flat_map(|(_, list)| list);
        // Names, or references as in a pod's specification.
        let names = names.filter_map(|secret| secret.as_str().or_else(|| secret["name"].as_str()));
        let mut names: Vec<_> = names.map(str::to_owned).collect();
        names.dedup();
        for (parameter, _) in &secrets {
            self.draft.set(parameter, &["imagePullSecrets"], names.clone());
        }
        self.each("commonLabels", &["labels"]);
        self.each("commonAnnotations", &["annotations"]);
    }

    /// Carries over each key of a mapping on its own, so that a key that sparkha refuses takes no other with it.
    fn each(&mut self, parameter: &str, path: &[&str]) {
        for (key, value) in self.object(parameter).into_iter().flatten() {
            let setting = format!("{parameter}.{key}");
            let path: Vec<_> = path.iter().copied().chain([key.as_str()]).collect();
            match text(&value) {
                Some(text) => self.draft.set(&setting, &path, text),
                None => self.expected(&setting, "a text"),
            }
        }
    }

    fn security(&mut self) {
        for (parameter, what) in [
            ("security.rpc.authenticationEnabled", "authenticates"),
            ("security.rpc.encryptionEnabled", "encrypts"),
        ] {
            match self.flag(parameter) {
                Some(true) => self.draft.carried_over(parameter, &["authentication", "enabled"]),
                Some(false) => self.draft.ignored(
                    parameter,
                    format!("sparkha {what} connections; authentication.enabled: false would end that"),
                ),
                None => {}
            }
        }
        self.switch(
            "security.storageEncryptionEnabled",
            &["sparkConf", "spark.io.encryption.enabled"],
        );
    }

    fn service(&mut self) {
        self.carry("service.type", &["webUi", "serviceType"]);
        self.carry("service.loadBalancerIP", &["webUi", "loadBalancerIP"]);
        self.each("service.annotations", &["webUi", "annotations"]);
        for (key, port) in self.object("service.nodePorts").into_iter().flatten() {
            let setting = format!("service.nodePorts.{key}");
            let number = text(&port).and_then(|port| port.parse::<u16>().ok());
            match (key.as_str(), number) {
                _ if !is_set(&port) => {}
                ("http" | "web", Some(number)) => self.draft.set(&setting, &["webUi", "nodePort"], number),
                ("http" | "web", None) => self.expected(&setting, "a port"),
                ("https", _) => self.draft.no_counterpart(&setting, "`sparkha router` serves HTTPS"),
                _ => self
                    .draft
                    .no_counterpart(&setting, "`sparkha submit` runs drivers inside the Kubernetes cluster"),
            }
        }
    }

    fn network_policies(&mut self) {
        let mut peers = Vec::new();
        let mut off = Vec::new();
        for component in ["master", "worker"] {
            let parameter = |key: &str| format!("{component}.networkPolicy.{key}");
            let enabled = self.flag(&parameter("enabled"));
            if enabled == Some(true) {
                self.draft
                    .carried_over(&parameter("enabled"), &["networkPolicy", "enabled"]);
            } else if enabled == Some(false) {
                off.push(parameter("enabled"));
            }
            match self.flag(&parameter("allowExternal")) {
                Some(true) => self.draft.no_counterpart(
                    &parameter("allowExternal"),
                    "only the cluster's pods and drivers may connect; networkPolicy.driversFrom admits others",
                ),
                Some(false) => self.draft.carried_over(&parameter("allowExternal"), &["networkPolicy"]),
                None => {}
            }
            let ignored = "sparkha limits who connects to the pods, not what they connect to";
            for key in ["allowExternalEgress", "extraEgress"] {
                if self.take(&parameter(key)).is_some() {
                    self.draft.ignored(&parameter(key), ignored);
                }
            }
            if self.take(&parameter("extraIngress")).is_some() {
                self.draft.no_counterpart(
                    &parameter("extraIngress"),
                    "networkPolicy.driversFrom and networkPolicy.webUisFrom take the peers of such rules",
                );
            }
            let namespaces = self.object(&parameter("ingressNSMatchLabels"));
            let pods = self.object(&parameter("ingressNSPodMatchLabels"));
            for (labels, key) in [
                (&namespaces, "ingressNSMatchLabels"),
                (&pods, "ingressNSPodMatchLabels"),
            ] {
                if labels.is_some() {
                    self.draft
                        .carried_over(&parameter(key), &["networkPolicy", "driversFrom"]);
                }
            }
            if namespaces.is_some() || pods.is_some() {
                let mut peer = json!({"namespaceSelector": {"matchLabels": namespaces.unwrap_or_default()}});
                if let Some(pods) = pods {
                    peer["podSelector"] = json!({"matchLabels": pods});
                }
                if !peers.contains(&peer) {
                    peers.push(peer);
                }
            }
        }
        if !peers.is_empty() {
            self.draft.put(&["networkPolicy", "driversFrom"], peers.clone());
            self.draft.put(&["networkPolicy", "webUisFrom"], peers);
        }
        let both = off.len() == 2;
        for parameter in off {
            match both {
                true => self.draft.set(&parameter, &["networkPolicy", "enabled"], false),
                false => self
                    .draft
                    .no_counterpart(&parameter, "policies are for masters and workers alike"),
            }
        }
    }

    fn metrics(&mut self) {
        let on = self.switch("metrics.enabled", &["metrics"]);
        let monitor = "metrics.podMonitor.enabled";
        let has_monitor = match on {
            true => self.switch(monitor, &["metrics", "podMonitor"]),
            false => {
                if self.take(monitor).is_some() {
                    self.draft.ignored(monitor, "metrics.enabled is not true");
                }
                false
            }
        };
        for key in ["interval", "scrapeTimeout", "additionalLabels"] {
            let parameter = format!("metrics.podMonitor.{key}");
            match self.take(&parameter) {
                Some(_) if has_monitor => self.draft.no_counterpart(&parameter, OWN_MONITOR),
                Some(_) => self.draft.ignored(&parameter, "there is no PodMonitor"),
                None => {}
            }
        }
    }

    /// Carries over that something is on. Returns whether it is.
    fn switch(&mut self, parameter: &str, path: &[&str]) -> bool {
        let on = self.flag(parameter);
        match on {
            Some(true) => self.draft.set(parameter, path, true),
            Some(false) => self.draft.ignored(parameter, OFF),
            None => {}
        }
        on == Some(true)
    }
}

/// The rule of a parameter; `None` if it is only a group of them, or unknown.
fn rule(path: &str) -> Option<Handling> {
    let exception = EXCEPTIONS.iter().find(|(name, _)| *name == path);
    let known = exception.or_else(|| PARAMETERS.iter().find(|(name, _)| *name == path));
    if let Some((_, rule)) = known {
        return Some(*rule);
    }
    let (component, name) = path.split_once('.')?;
    if !["master", "worker"].contains(&component) {
        return None;
    }
    OF_PODS
        .iter()
        .find(|(of_pods, _)| *of_pods == name)
        .map(|(_, rule)| *rule)
}

/// Whether a parameter below this path has a rule of its own.
fn has_exception(path: &str) -> bool {
    EXCEPTIONS.iter().any(|(name, _)| name.starts_with(&format!("{path}.")))
}

fn too_old_image(version: &str) -> String {
    let unsupported = unsupported_spark(version);
    format!("{unsupported}, and the file has no image, which is the newest")
}

/// Whether a value differs from what Helm takes for unset.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => object.values().any(is_set),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("{{"),
        Value::Array(list) => list.iter().any(has_template),
        Value::Object(object) => object.values().any(has_template),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
