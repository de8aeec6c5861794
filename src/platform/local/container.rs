//! Builds the command, arguments and environment of a container's process from the pod's template.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use k8s_openapi::api::core::v1::{EnvVar, Pod};
use kube::ResourceExt;
use tokio::process::{Child, Command};

use super::cgroup::Groups;
use super::pod::container_of;
use super::process::{CLUSTER_DIR, CONTAINER_ID, ProcessId};
use super::software::SPARK;
use super::store::{ClusterDir, DesiredState};
use super::translate::Translation;
use super::{class_archive, volumes};
use crate::platform::system::processes::in_own_group;

/// The program, arguments and environment of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    pub program: String,
    pub arguments: Vec<String>,
    pub environment: BTreeMap<String, String>,
}

impl Launch {
    /// Starts the process in a process group of its own, so that Ctrl-C does not reach it.
    ///
    /// # Errors
    /// The reason, as a kubelet would report it.
    pub fn start(
        &self,
        groups: &Groups,
        folder: &Path,
        output: Stdio,
        errors: Stdio,
    ) -> Result<(Child, ProcessId), String> {
        let mut command = self.command(groups);
        command
            .current_dir(folder)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        let child = in_own_group(&mut command)
            .spawn()
            .map_err(|error| format!("failed to start {}: {error}", self.program))?;
        let process = child.id().and_then(|pid| ProcessId::of(pid as i32));
        let process = process.ok_or_else(|| format!("{} exited at once", self.program))?;
        Ok((child, process))
    }

    /// A command that joins the cgroups by itself before it executes the container's program.
    fn command(&self, groups: &Groups) -> Command {
        let cgroup_procs: Vec<_> = groups.cgroup_procs().collect();
        if cgroup_procs.is_empty() {
            let mut command = Command::new(&self.program);
            command.args(&self.arguments);
            return command;
        }
        let mut command = Command::new("/bin/sh");
        let enter = "until [ \"$1\" = -- ]; do echo $$ >\"$1\" || true; shift; done; shift; exec \"$@\"";
        command
            .args(["-c", enter, "sh"])
            .args(cgroup_procs)
            .arg("--")
            .arg(&self.program)
            .args(&self.arguments);
        command
    }
}

/// The inputs of [`launch`] besides the pod.
pub struct LaunchContext<'a> {
    pub dir: &'a ClusterDir,
    pub desired: &'a DesiredState,
    pub translation: &'a Translation,
    pub container_id: &'a str,
}

/// The launch of the pod's only container.
///
/// # Errors
/// The reason, as a kubelet would report it, if the container's environment cannot be built.
pub fn launch(pod: &Pod, context: &LaunchContext<'_>) -> Result<Launch, String> {
    let container = container_of(pod).ok_or("the pod has no container")?;
    let mut environment = base(pod, context);
    let mut own = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(pod, variable, &own, context)? {
            own.insert(variable.name.clone(), value);
        }
    }
    let users_java = own.remove("JDK_JAVA_OPTIONS");
    environment.extend(own.clone());
    if let (Some(options), Some(ours)) = (users_java, environment.get_mut("JDK_JAVA_OPTIONS")) {
        *ours = format!("{ours} {options}");
    }
    let words = [&container.command, &container.args].into_iter().flatten().flatten();
    let mut words = words.map(|word| expand(&context.translation.text(word), &own));
    Ok(Launch {
        program: words.next().ok_or("the container has no command")?,
        arguments: words.collect(),
        environment,
    })
}

/// The variables that the image and the platform set in every container.
fn base(pod: &Pod, context: &LaunchContext<'_>) -> BTreeMap<String, String> {
    let home = context.dir.pod(&pod.name_any()).display().to_string();
    let temporary = context.translation.text("/tmp");
    let hosts_file = context.dir.hosts_file();
    let software = context.desired.software.of_pod(pod.annotations().get(SPARK));
    let mut environment: BTreeMap<_, _> = software.environment().into_iter().collect();
    if let Some(home) = class_archive::java_home(&software) {
        environment.insert("JAVA_HOME".to_owned(), home.display().to_string());
    }
    environment.extend([
        ("HOSTNAME".to_owned(), pod.name_any()),
        ("HOME".to_owned(), home),
        ("TMPDIR".to_owned(), temporary.clone()),
        // Otherwise web UIs and ZooKeeper's client port would listen on all addresses, and clash with those of other pods.
        ("SPARK_LOCAL_IP".to_owned(), pod_ip(pod)),
        (
            "JDK_JAVA_OPTIONS".to_owned(),
            java_options(&hosts_file, Some(&temporary)),
        ),
        // For programs other than Java.
        ("SPARKHA_HOSTS_FILE".to_owned(), hosts_file.display().to_string()),
        (CONTAINER_ID.to_owned(), context.container_id.to_owned()),
        (CLUSTER_DIR.to_owned(), context.dir.path().display().to_string()),
    ]);
    environment
}

/// Options for every JVM on this machine that resolves the cluster's names. Executors inherit them.
pub fn java_options(hosts_file: &Path, temporary: Option<&str>) -> String {
    let hosts = format!("\"-Djdk.net.hosts.file={}\"", hosts_file.display());
    match temporary {
        Some(folder) => format!("{hosts} \"-Djava.io.tmpdir={folder}\""),
        None => hosts,
    }
}

fn pod_ip(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    status.and_then(|status| status.pod_ip.clone()).unwrap_or_default()
}

fn value(
    pod: &Pod,
    variable: &EnvVar,
    known: &BTreeMap<String, String>,
    context: &LaunchContext<'_>,
) -> Result<Option<String>, String> {
    let Some(source) = &variable.value_from else {
        let text = variable.value.clone().unwrap_or_default();
        return Ok(Some(expand(&context.translation.text(&text), known)));
    };
    if let Some(field) = &source.field_ref {
        return field_of(pod, &field.field_path).map(Some);
    }
    let (kind, name, key, optional) = match (&source.secret_key_ref, &source.config_map_key_ref) {
        (Some(secret), _) => ("secrets", &secret.name, &secret.key, secret.optional),
        (_, Some(config_map)) => ("configmaps", &config_map.name, &config_map.key, config_map.optional),
        _ => {
            let name = &variable.name;
            return Err(format!(
                "environment {name}: this source is not supported on this machine"
            ));
        }
    };
    let rendered = context.desired.config_map(name).filter(|_| kind == "configmaps");
    if let Some(text) = rendered.and_then(|config_map| config_map.data?.get(key).cloned()) {
        return Ok(Some(text));
    }
    let folder = volumes::users_folder(kind, context.dir, name)?;
    match std::fs::read_to_string(folder.join(key)) {
        // Editors end files with a line break that is not part of the value.
        Ok(text) => Ok(Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())),
        Err(_) if optional == Some(true) => Ok(None),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("failed to read {}: {error}", folder.join(key).display()))
        }
        Err(_) if folder.is_dir() => Err(format!(
            "there is no key {key}: write it to {}",
            folder.join(key).display()
        )),
        Err(_) => Err(volumes::missing(kind, name, &folder)),
    }
}

fn field_of(pod: &Pod, path: &str) -> Result<String, String> {
    let of_map = |prefix: &str, map: &BTreeMap<String, String>| {
        let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
        Some(map.get(key).cloned().unwrap_or_default())
    };
    let spec = pod.spec.clone().unwrap_or_default();
    Ok(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "status.podIP" | "status.podIPs" => pod_ip(pod),
        "status.hostIP" => "127.0.0.1".into(),
        "spec.nodeName" => spec.node_name.unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.unwrap_or_default(),
        _ => of_map("metadata.labels", pod.labels())
            .or_else(|| of_map("metadata.annotations", pod.annotations()))
            .ok_or_else(|| format!("the field {path} is not supported on this machine"))?,
    })
}

/// Expands `$(NAME)` of the variables defined so far. `$$(NAME)` becomes the text `$(NAME)`, and undefined references stay as they are.
fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match reference.and_then(|(name, after)| Some((known.get(name)?, after))) {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let known = [("A".to_owned(), "1".to_owned())].into();
        for (text, expected) in [
            ("x$(A)y", "x1y"),
            ("$$(A)", "$(A)"),
            ("$(B) $A $", "$(B) $A $"),
            ("$(A", "$(A"),
            ("a$$b", "a$b"),
        ] {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }

    #[test]
    fn a_rendered_worker_has_the_expected_launch() {
        let spec = crate::spec::resolve::resolve(None, &Default::default()).unwrap();
        let desired = DesiredState {
            software: crate::platform::local::software::Software {
                spark_home: "/spark".into(),
                spark_version: "4.3.0".into(),
                java_home: Some("/java".into()),
                java_version: 17,
                path: "/bin".into(),
            },
            resources: crate::render::render(&spec).all(&spec),
        };
        let set = desired.sets().pop().unwrap();
        let pod = crate::platform::local::stateful_set::pod(&set, 1, "n", "127.64.0.1", "u".into());
        let dir = ClusterDir::at(Path::new("/s/n/spark")).unwrap();
        let mounts = [
            ("/etc/spark", "/p/conf"),
            ("/tmp", "/p/tmp"),
            ("/var/spark/work", "/p/work"),
            ("/var/spark/shuffle", "/p/shuffle"),
        ];
        let context = LaunchContext {
            dir: &dir,
            desired: &desired,
            translation: &Translation::new(mounts.map(|(from, to)| (from.to_owned(), to.to_owned()))),
            container_id: "m",
        };
        let expected = Launch {
            program: "/bin/bash".into(),
            arguments: vec![
                "/p/conf/worker.sh".into(),
                "spark://spark-master-0:7077,spark-master-1:7077,spark-master-2:7077".into(),
            ],
            environment: [
                ("HOME", "/p/tmp"),
                ("HOSTNAME", "spark-worker-1"),
                ("JAVA_HOME", "/java"),
                ("JDK_JAVA_OPTIONS", "\"-Djdk.net.hosts.file=/s/n/spark/hosts\" \"-Djava.io.tmpdir=/p/tmp\""),
                ("LANG", "C.UTF-8"),
                ("PATH", "/bin"),
                ("POD_IP", "127.64.0.1"),
                ("POD_NAMESPACE", "n"),
                ("SPARKHA_CLUSTER_DIR", "/s/n/spark"),
                ("SPARKHA_CONTAINER_ID", "m"),
                ("SPARKHA_DRAIN_SECONDS", "300"),
                ("SPARKHA_HOSTS_FILE", "/s/n/spark/hosts"),
                ("SPARKHA_UI_DOMAIN", "k8s"),
                ("SPARK_CONF_DIR", "/p/conf"),
                (
                    "SPARK_DAEMON_JAVA_OPTS",
                    "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dsun.net.inetaddr.ttl=5 -Dsun.net.inetaddr.negative.ttl=0",
                ),
                ("SPARK_DAEMON_MEMORY", "256m"),
                ("SPARK_HOME", "/spark"),
                ("SPARK_LOCAL_DIRS", "/p/shuffle"),
                ("SPARK_LOCAL_HOSTNAME", "127.64.0.1"),
                ("SPARK_LOCAL_IP", "127.64.0.1"),
                ("SPARK_WORKER_CORES", "1"),
                ("SPARK_WORKER_DIR", "/p/work"),
                ("SPARK_WORKER_MEMORY", "1116m"),
                ("SPARK_WORKER_PORT", "7078"),
                ("SPARK_WORKER_WEBUI_PORT", "8081"),
                ("TMPDIR", "/p/tmp"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        };
        assert_eq!(launch(&pod, &context), Ok(expected));
    }

    #[test]
    fn resolves_fields_of_a_pod() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"a/b": "c"}},
            "spec": {"nodeName": "here", "containers": []}, "status": {"podIP": "127.64.0.1"},
        }))
        .unwrap();
        let of = |path| field_of(&pod, path);
        assert_eq!(of("status.podIP"), Ok("127.64.0.1".into()));
        assert_eq!(of("metadata.namespace"), Ok("n".into()));
        assert_eq!(of("metadata.labels['a/b']"), Ok("c".into()));
        assert!(of("status.phase").is_err());
    }
}
