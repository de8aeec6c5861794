//! Merges flags into the cluster file: one document with all settings of a create, without defaults. The inventory keeps it, so that
//! the next create without a file changes only the settings of its flags. Defaults of a later sparkha apply to the rest.

use serde_json::{Value, json};

use crate::spec::overrides::{Overrides, external_of};

/// The cluster file equivalent to `file` with `flags`, without name and namespace, which the inventory keeps itself.
pub fn cluster_file(file: Value, flags: &Overrides) -> String {
    super::yaml(&merged(file, flags))
}

/// A stored cluster file with another number of workers. An invalid file is returned unchanged; resolving it reports why.
pub fn with_workers(cluster_file: &str, count: u32) -> String {
    let read = super::read(cluster_file);
    if !read.problems.is_empty() {
        return cluster_file.to_owned();
    }
    let flags = Overrides {
        workers: Some(count),
        ..Overrides::default()
    };
    super::yaml(&merged(read.value, &flags))
}

/// Values that flags set are inside of mappings or missing: the check against the schema has removed everything else.
fn merged(mut file: Value, flags: &Overrides) -> Value {
    if file.is_null() {
        file = json!({});
    }
    if let Some(document) = file.as_object_mut() {
        document.remove("name");
        document.remove("namespace");
    }
    if let Some(image) = &flags.image {
        file["image"] = json!(image);
    }
    if let Some(count) = flags.masters {
        file["masters"]["count"] = json!(count);
    }
    if let Some(count) = flags.workers {
        file["workers"]["count"] = json!(count);
    }
    if let Some(cores) = flags.worker_cores {
        limit(&mut file["workers"], "cores", "cpu", json!(cores.to_string()));
    }
    if let Some(memory) = &flags.worker_memory {
        limit(&mut file["workers"], "memory", "memory", json!(memory));
    }
    if let Some(text) = &flags.zookeeper {
        let (servers, chroot) = external_of(text);
        let mut external = json!({"servers": servers});
        if let Some(chroot) = chroot {
            external["chroot"] = json!(chroot);
        }
        if let Some(secret) = file.pointer("/zookeeper/external/secret") {
            external["secret"] = secret.clone();
        }
        // Replaces the keys of a managed ensemble, which an external one refuses.
        file["zookeeper"] = json!({"external": external});
    }
    if let Some(domain) = &flags.ui_domain {
        file["webUi"]["domain"] = json!(domain);
    }
    if let Some(cores) = &flags.default_cores {
        file["defaultCores"] = json!(cores);
    }
    for (key, flag) in [
        ("history", flags.history),
        ("connect", flags.connect),
        ("metrics", flags.metrics),
    ] {
        if flag && !file[key].is_object() {
            file[key] = json!(true);
        }
    }
    file
}

/// Sets a limit of workers in its short form, and removes its long form, which would contradict it.
fn limit(workers: &mut Value, short: &str, long: &str, value: Value) {
    workers[short] = value;
    if let Some(limits) = workers.pointer_mut("/resources/limits").and_then(Value::as_object_mut) {
        limits.remove(long);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ClusterSpec;
    use crate::spec::resolve::{Source, resolve};

    fn resolved(text: &str, flags: &Overrides) -> ClusterSpec {
        let source = Source {
            name: "sparkha.yaml",
            text,
        };
        resolve(Some(source), flags).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn all_flags() -> Overrides {
        Overrides {
            name: Some("etl".into()),
            alias: None,
            namespace: Some("data".into()),
            image: Some("spark:4".into()),
            masters: Some(2),
            workers: Some(5),
            worker_cores: Some(3),
            worker_memory: Some("6g".into()),
            default_cores: Some("3".into()),
            zookeeper: Some("a:1,b:2/team".into()),
            ui_domain: Some("example.test".into()),
            history: true,
            connect: true,
            metrics: true,
        }
    }

    #[test]
    fn flags_are_merged_into_the_keys_of_the_file() {
        let text = "name: x\nnamespace: y\nimage: old:1\nsparkConf: {spark.a: 1.10}\nmasters: {daemonMemory: 600m}\n\
                    workers: {count: 1, resources: {limits: {cpu: 9, memory: 9Gi}, requests: {cpu: 1}}}\n\
                    zookeeper: {external: {servers: ['z:1'], secret: login}}\n\
                    history: {maxAge: 1d, eventLogs: 's3a://b/e'}\ns3: {}\n";
        let expected = "\
connect: true
defaultCores: \"3\"
history:
  eventLogs: s3a://b/e
  maxAge: 1d
image: spark:4
masters:
  count: 2
  daemonMemory: 600m
metrics: true
s3: {}
sparkConf:
  spark.a: \"1.10\"
webUi:
  domain: example.test
workers:
  cores: \"3\"
  count: 5
  memory: 6g
  resources:
    limits: {}
    requests:
      cpu: \"1\"
zookeeper:
  external:
    chroot: /team
    secret: login
    servers:
    - a:1
    - b:2
";
        assert_eq!(resolved(text, &all_flags()).cluster_file.as_deref(), Some(expected));
    }

    #[test]
    fn the_merged_file_describes_the_same_cluster() {
        let flags = all_flags();
        let place = Overrides {
            name: flags.name.clone(),
            namespace: flags.namespace.clone(),
            ..Overrides::default()
        };
        let none = Overrides::default();
        for (text, flags) in [
            ("", &none),
            ("", &flags),
            ("history: false\nzookeeper: {count: 5}\nworkers: {cores: 2}\n", &flags),
            (include_str!("../../../examples/sparkha.yaml"), &none),
            (include_str!("../../../examples/development.yaml"), &flags),
            (include_str!("../../../examples/external-zookeeper.yaml"), &none),
            (include_str!("../../../examples/large-workers.yaml"), &none),
            (include_str!("../../../examples/s3-history.yaml"), &flags),
        ] {
            let flags = Overrides {
                name: place.name.clone(),
                namespace: place.namespace.clone(),
                ..flags.clone()
            };
            let spec = resolved(text, &flags);
            let stored = spec.cluster_file.clone().unwrap();
            assert_eq!(resolved(&stored, &place), spec, "{stored}");
        }
    }

    #[test]
    fn a_later_flag_changes_only_its_own_key() {
        let first = resolved("masters: {count: 1}\nconnect: true\n", &Overrides::default());
        let more_workers = Overrides {
            workers: Some(3),
            ..Overrides::default()
        };
        let then = resolved(&first.cluster_file.unwrap(), &more_workers);
        assert_eq!((then.masters.count, then.workers.count), (1, 3));
        assert!(then.connect.is_some());
        let stored = then.cluster_file.unwrap();
        assert_eq!(stored, "connect: true\nmasters:\n  count: 1\nworkers:\n  count: 3\n");
        assert_eq!(with_workers(&stored, 7), stored.replace('3', "7"));
        assert_eq!(with_workers("nonsense: 1\n", 7), "nonsense: 1\n");
    }

    #[test]
    fn a_file_with_a_secret_in_plain_text_is_not_stored() {
        let file = |text: &str| resolved(text, &Overrides::default()).cluster_file;
        assert_eq!(file("env: {MY_TOKEN: abc}\n"), None);
        assert_eq!(file("connect: {env: {SPARK_CONNECT_AUTHENTICATE_TOKEN: abc}}\n"), None);
        assert!(file("env: {MY_TOKEN: {secretKeyRef: {name: a, key: b}}, MODE: fast}\n").is_some());
    }
}
