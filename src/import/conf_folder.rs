//! Spark's own configuration folder: `spark-env.sh`, `spark-defaults.conf` and `workers`.

use std::collections::BTreeMap;

use super::{Draft, Import};
use crate::model::properties;

/// Files with the cluster's description; the last is an older name of `workers`.
pub const READ: [&str; 4] = ["spark-env.sh", "spark-defaults.conf", "workers", "slaves"];

/// Other files of the folder, which are reported.
pub const OTHERS: [&str; 7] = [
    "core-site.xml",
    "fairscheduler.xml",
    "hdfs-site.xml",
    "hive-site.xml",
    "log4j.properties",
    "log4j2.properties",
    "metrics.properties",
];

/// What becomes of a file that only some folders have.
fn other(name: &str) -> &'static str {
    match name {
        "log4j.properties" | "log4j2.properties" => {
            "the daemons log to their pods' output, and `sparkha logs` shows it"
        }
        "metrics.properties" => "metrics: true exposes metrics for Prometheus",
        _ => "create a ConfigMap from it, and mount it with volumes",
    }
}

/// Words that begin and end what runs only under a condition.
const OPENING: [&str; 6] = ["if", "case", "for", "while", "until", "{"];
const CLOSING: [&str; 4] = ["fi", "esac", "done", "}"];

/// Characters that join or redirect commands.
const OPERATORS: [char; 7] = [';', '|', '&', '<', '>', '(', ')'];

/// The cluster that a folder's files, by name, describe.
pub fn import(files: &BTreeMap<String, String>) -> Import {
    let mut draft = Draft::new();
    let workers = files.get("workers").or_else(|| files.get("slaves"));
    if let Some(workers) = workers {
        let hosts = workers.lines().map(str::trim);
        let count = hosts.filter(|line| !line.is_empty() && !line.starts_with('#')).count();
        draft.set("workers", &["workers", "count"], count);
    }
    if let Some(text) = files.get("spark-env.sh") {
        variables(&mut draft, text);
    }
    if let Some(text) = files.get("spark-defaults.conf") {
        draft.properties("", &properties::parse(text));
    }
    for name in files.keys().filter(|name| !READ.contains(&name.as_str())) {
        draft.no_counterpart(name, other(name));
    }
    draft.finish()
}

/// The variables of `spark-env.sh`. sparkha does not run it: what depends on a shell is reported.
fn variables(draft: &mut Draft, text: &str) {
    let mut depth = 0_usize;
    let mut given: Vec<(String, String, String)> = Vec::new();
    for (number, line) in logical_lines(text) {
        let place = format!("spark-env.sh:{number}");
        let count = |words: &[&str]| {
            let parts = line.split([' ', '\t', ';']);
            parts.filter(|part| words.contains(part)).count()
        };
        let nested = depth > 0;
        depth = (depth + count(&OPENING)).saturating_sub(count(&CLOSING));
        let words = shlex::split(&line).unwrap_or_default();
        let words = match words.first().map(String::as_str) {
            Some("export") => &words[1..],
            _ => &words[..],
        };
        let assigns = !words.is_empty() && words.iter().all(|word| is_assignment(word));
        if !assigns || line.contains(OPERATORS) {
            // The first line stands for all of a condition.
            if !nested {
                draft.no_counterpart(&place, "it is shell code, which sparkha does not run");
            }
            continue;
        }
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or_default();
            let setting = format!("{place}: {name}");
            if nested {
                draft.no_counterpart(&setting, "it depends on a condition");
            } else if line.contains(['$', '`']) {
                draft.no_counterpart(&setting, "it depends on other variables or commands of the machine");
            } else {
                given.retain(|(_, earlier, _)| earlier != name);
                given.push((setting, name.to_owned(), value.to_owned()));
            }
        }
    }
    for (setting, name, value) in given {
        match name.as_str() {
            "SPARK_WORKER_CORES" => match value.parse::<u32>() {
                Ok(cores) => draft.set(&setting, &["workers", "cores"], cores),
                Err(_) => draft.no_counterpart(&setting, "its value is not a number"),
            },
            "SPARK_WORKER_MEMORY" => draft.offer(&setting, &value),
            "SPARK_DAEMON_MEMORY" => {
                draft.put(&["workers", "daemonMemory"], value.as_str());
                draft.master_heap(&setting, &value);
            }
            _ => draft.variable(&setting, &["env"], &name, &value),
        }
    }
}

/// Lines with their numbers, without comments and empty ones; a line that ends in a backslash goes on in the next.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, line) in text.lines().enumerate() {
        let (number, mut whole) = open.take().unwrap_or((at + 1, String::new()));
        match line.strip_suffix('\\') {
            Some(line) => {
                whole.push_str(line);
                open = Some((number, whole));
            }
            None => {
                whole.push_str(line);
                lines.push((number, whole.trim().to_owned()));
            }
        }
    }
    lines.extend(open);
    lines.retain(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
}

/// Whether a word sets a variable.
fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map(|(name, _)| name);
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.is_some_and(|name| {
        !name.is_empty() && name.chars().all(valid) && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::Outcome;
    use crate::spec::resolve::{Overrides, Source, resolve};

    fn imported<const N: usize>(files: [(&str, &str); N]) -> Import {
        let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let import = import(&files.into());
        let source = Source {
            name: "sparkha.yaml",
            text: &import.cluster_file,
        };
        if let Err(problems) = resolve(Some(source), &Overrides::default()) {
            panic!("{problems}\n{}", import.cluster_file);
        }
        import
    }

    /// The reasons of settings that were not carried over.
    fn reasons(import: &Import) -> Vec<(&str, &str)> {
        let reason = |outcome| match outcome {
            &Outcome::CarriedOver { .. } => None,
            Outcome::NoCounterpart { reason } | Outcome::Ignored { reason } => Some(reason.as_str()),
        };
        let settings = import.settings.iter();
        settings
            .filter_map(|setting| Some((setting.name.as_str(), reason(&setting.outcome)?)))
            .collect()
    }

    #[test]
    fn a_folder_is_imported_whole() {
        let environment = "#!/usr/bin/env bash
# Options of the cluster
export SPARK_WORKER_MEMORY=6g SPARK_WORKER_CORES=4
SPARK_DAEMON_MEMORY=1g
SPARK_MASTER_HOST='10.0.0.1'
SPARK_DAEMON_JAVA_OPTS=\"-Dspark.deploy.recoveryMode=ZOOKEEPER \\
  -Dspark.deploy.zookeeper.url=zk-0:2181,zk-1:2181/prod -Dspark.deploy.zookeeper.dir=/spark -XX:+UseZGC\"
export TZ=UTC
export AWS_SECRET_ACCESS_KEY=hunter2
export SPARK_DIST_CLASSPATH=$(hadoop classpath)
HADOOP_CONF_DIR=/etc/hadoop/conf
if [ -f /etc/site ]; then
  . /etc/site
  export SITE=one
fi
TZ=Europe/Berlin
JAVA_HOME=/usr/lib/jvm/17; umask 077
";
        let properties = "spark.master spark://10.0.0.1:7077
spark.eventLog.enabled true
spark.eventLog.dir s3a://logs/spark
spark.history.fs.cleaner.maxAge 14d
spark.hadoop.fs.s3a.endpoint minio.example:9000
spark.hadoop.fs.s3a.path.style.access true
spark.hadoop.fs.s3a.secret.key hunter2
spark.sql.shuffle.partitions 64
spark.dynamicAllocation.enabled true
spark.dynamicAllocation.maxExecutors 8
";
        let import = imported([
            ("spark-env.sh", environment),
            ("spark-defaults.conf", properties),
            ("workers", "# hosts\n10.0.0.2\n10.0.0.3\n\n10.0.0.4\n"),
            ("hive-site.xml", "<configuration/>"),
        ]);
        assert_eq!(
            import.cluster_file,
            "masters:
  daemonMemory: 1g
  resources:
    limits:
      memory: 1536Mi
workers:
  cores: 4
  count: 3
  daemonMemory: 1g
  memory: 9728Mi
zookeeper:
  external:
    chroot: /prod
    servers:
    - zk-0:2181
    - zk-1:2181
history:
  eventLogs: s3a://logs/spark
  maxAge: 14d
sparkConf:
  spark.sql.shuffle.partitions: \"64\"
dynamicAllocation:
  maxExecutors: 8
env:
  TZ: Europe/Berlin
s3:
  endpoint: https://minio.example:9000
  pathStyleAccess: true
"
        );
        let reasons = reasons(&import);
        for (name, reason) in [
            ("spark-env.sh:5: SPARK_MASTER_HOST", "name of the master's Service"),
            ("spark-env.sh:6: SPARK_DAEMON_JAVA_OPTS: -XX", "sparkha chooses"),
            (
                "spark-env.sh:6: SPARK_DAEMON_JAVA_OPTS: spark.deploy.zookeeper.dir",
                "below /sparkha",
            ),
            ("spark-env.sh:9: AWS_SECRET_ACCESS_KEY", "has no secrets"),
            ("spark-env.sh:10", "shell code"),
            ("spark-env.sh:11: HADOOP_CONF_DIR", "mount the files"),
            ("spark-env.sh:12", "shell code"),
            ("spark-env.sh:14: SITE", "depends on a condition"),
            ("spark-env.sh:17", "shell code"),
            ("spark.master", "masters' URL"),
            ("spark.hadoop.fs.s3a.secret.key", "has no secrets"),
            ("hive-site.xml", "ConfigMap"),
        ] {
            let given = reasons.iter().find(|(named, _)| *named == name);
            assert!(
                given.is_some_and(|(_, given)| given.contains(reason)),
                "{name}: {reasons:#?}"
            );
        }
        assert!(!format!("{import:?}").contains("hunter2"));
    }

    #[test]
    fn workers_hold_as_many_executors_as_before() {
        let import = imported([
            ("spark-env.sh", "SPARK_WORKER_MEMORY=8g\nSPARK_WORKER_CORES=8\n"),
            (
                "spark-defaults.conf",
                "spark.executor.memory 1g\nspark.executor.cores 1\n",
            ),
        ]);
        let source = Source {
            name: "sparkha.yaml",
            text: &import.cluster_file,
        };
        let workers = resolve(Some(source), &Overrides::default()).unwrap().workers;
        assert_eq!(workers.executors, 8, "{}", import.cluster_file);
        assert!(workers.offer.memory.mib() >= 8192, "{}", import.cluster_file);
        assert_eq!(reasons(&import), []);
        // These executors fit into no worker, and are refused instead of the memory.
        let import = imported([
            ("spark-env.sh", "SPARK_WORKER_MEMORY=2g\n"),
            ("spark-defaults.conf", "spark.executor.cores 4\n"),
        ]);
        assert!(
            import.cluster_file.starts_with("workers:\n  memory: "),
            "{}",
            import.cluster_file
        );
        assert_eq!(reasons(&import)[0].0, "spark.executor.cores");
        let import = imported([("spark-env.sh", "SPARK_WORKER_MEMORY=99999999t\n")]);
        assert_eq!(
            reasons(&import),
            [(
                "spark-env.sh:1: SPARK_WORKER_MEMORY",
                "it is not an amount of memory that a pod can have"
            )]
        );
    }

    #[test]
    fn the_scheme_of_an_s3_endpoint_follows_from_its_tls() {
        for (endpoint, tls, url) in [
            ("minio:9000", "false", "http://minio:9000"),
            ("minio:9000", "true", "https://minio:9000"),
            ("http://minio:9000", "true", "http://minio:9000"),
        ] {
            let properties =
                format!("spark.hadoop.fs.s3a.endpoint {endpoint}\nspark.hadoop.fs.s3a.connection.ssl.enabled {tls}\n");
            let import = imported([("spark-defaults.conf", properties.as_str())]);
            assert_eq!(import.cluster_file, format!("s3:\n  endpoint: {url}\n"));
            assert_eq!(reasons(&import), []);
        }
    }

    #[test]
    fn what_depends_on_the_machine_is_reported() {
        let import = imported([(
            "spark-env.sh",
            "SPARK_WORKER_CORES=$(nproc)\nSPARK_WORKER_MEMORY=${MEMORY:-4g}\nA='plain'\nfor x in 1; do B=1; done\nC=2\nD=\"open\n",
        )]);
        assert_eq!(import.cluster_file, "env:\n  A: plain\n  C: \"2\"\n");
        let names: Vec<_> = reasons(&import).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "spark-env.sh:1",
                "spark-env.sh:2: SPARK_WORKER_MEMORY",
                "spark-env.sh:4",
                "spark-env.sh:6"
            ]
        );
    }

    #[test]
    fn a_single_master_with_files_stays_one() {
        let import = imported([(
            "spark-env.sh",
            "SPARK_DAEMON_JAVA_OPTS=-Dspark.deploy.recoveryMode=FILESYSTEM\n",
        )]);
        assert_eq!(import.cluster_file, "masters:\n  count: 1\n");
    }

    #[test]
    fn every_file_is_read_or_reported() {
        for name in READ.into_iter().chain(OTHERS) {
            let import = imported([(name, "SPARK_WORKER_CORES=2\n")]);
            assert_eq!(import.settings.len(), 1, "{name}: {import:?}");
        }
    }
}
