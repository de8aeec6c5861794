use super::*;
use crate::spec::{ConnectToken, EventLogs, ExternalZooKeeper, NewClaim, PullPolicy, Recovery};

fn from_file(text: &str) -> Result<ClusterSpec, Problems> {
    resolve(
        Some(Source {
            name: "sparkha.yaml",
            text,
        }),
        &Overrides::default(),
    )
}

#[test]
fn defaults_describe_a_highly_available_cluster() {
    let spec = resolve(None, &Overrides::default()).unwrap();
    assert_eq!(spec.name.as_str(), "spark");
    assert_eq!(spec.image.name.to_string(), DEFAULT_IMAGE);
    assert_eq!((spec.masters.count, spec.workers.count), (3, 2));
    assert_eq!(
        spec.workers.offer,
        caps::Offer {
            cores: 1,
            memory: Memory::from_mib(1116)
        }
    );
    let Recovery::ManagedZooKeeper(zookeeper) = spec.recovery else {
        panic!("no managed ZooKeeper")
    };
    assert_eq!(
        (zookeeper.count, zookeeper.failover_seconds, zookeeper.storage),
        (3, 2, None)
    );
}

#[test]
fn flags_override_the_file_and_the_file_overrides_defaults() {
    let text = "name: a\nimage: one:1\nmasters: {count: 5}\nworkers: {count: 4, cores: 2, memory: 4g}\n";
    let flags = Overrides {
        image: Some("two:2".into()),
        worker_cores: Some(3),
        ..Overrides::default()
    };
    let source = Source {
        name: "sparkha.yaml",
        text,
    };
    let spec = resolve(Some(source), &flags).unwrap();
    assert_eq!(spec.name.as_str(), "a");
    assert_eq!(spec.image.name.to_string(), "two:2");
    assert_eq!(
        (spec.masters.count, spec.workers.count, spec.workers.offer.cores),
        (5, 4, 3)
    );
    assert_eq!(spec.workers.pod.resources.memory_limit, Memory::from_mib(4096));
    assert_eq!(spec.workers.pod.resources.cpu_request, Cpu::from_millis(750));
}

#[test]
fn one_master_needs_no_zookeeper() {
    let spec = from_file("masters: {count: 1, storage: {size: 1Gi}}\n").unwrap();
    let claim = NewClaim {
        size: Memory::from_mib(1024),
        storage_class: None,
        access_mode: "ReadWriteOnce".into(),
    };
    assert_eq!(spec.recovery, Recovery::FileSystem { storage: Some(claim) });
}

#[test]
fn an_external_ensemble_keeps_each_cluster_in_its_own_folder() {
    let flags = Overrides {
        namespace: Some("data".into()),
        zookeeper: Some("a:1,b:2/team".into()),
        ..Overrides::default()
    };
    let by_flag = resolve(None, &flags).unwrap().recovery;
    let file = |secret: &str| {
        let text =
            format!("namespace: data\nzookeeper: {{external: {{servers: ['a:1', 'b:2'], chroot: /team{secret}}}}}\n");
        from_file(&text).unwrap().recovery
    };
    let expected = |secret: Option<&str>| {
        Recovery::ExternalZooKeeper(ExternalZooKeeper {
            servers: vec!["a:1".into(), "b:2".into()],
            directory: "/team/sparkha/data/spark".into(),
            secret: secret.map(str::to_owned),
        })
    };
    assert_eq!(by_flag, expected(None));
    assert_eq!(file(""), expected(None));
    assert_eq!(file(", secret: mine"), expected(Some("mine")));
    let unused = "zookeeper: {external: {servers: ['a:1']}, env: {ZK_PASSWORD: x}}\n";
    let told = from_file(unused).unwrap_err().to_string();
    assert!(told.contains("zookeeper.env: sparkha does not configure"), "{told}");
}

#[test]
fn secrets_in_plain_text_are_told_from_names_of_files() {
    let text = "env: {TOKEN: x, EMPTY_TOKEN: '', GOOGLE_APPLICATION_CREDENTIALS: /etc/gcp/key.json}\n\
                masters: {env: {AWS_SECRET_ACCESS_KEY: /x, MY_CREDENTIALS: x}}\n";
    let names: Vec<_> = from_file(text)
        .unwrap()
        .plain_secrets()
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(names, ["AWS_SECRET_ACCESS_KEY", "MY_CREDENTIALS", "TOKEN"]);
}

#[test]
fn the_file_can_set_every_value() {
    let spec = from_file(
        "
image: registry.example/spark:4
imagePullPolicy: Always
imagePullSecrets: [registry]
sparkConf: {spark.sql.shuffle.partitions: 64, spark.eventLog.enabled: true}
env: {MODE: fast, TOKEN: {secretKeyRef: {name: s, key: k}}}
s3: {endpoint: 'http://minio:9000', pathStyleAccess: true, secret: {name: keys}}
webUi: {domain: spark.example, serviceType: LoadBalancer, loadBalancerIP: 192.0.2.1, annotations: {example.org/pool: a}}
networkPolicy: {webUisFrom: [{namespaceSelector: {matchLabels: {a: b}}}], driversFrom: [{ipBlock: {cidr: 192.0.2.0/24}}]}
labels: {team: data}
workers:
  shuffle: {newClaim: {size: 10Gi, storageClassName: fast}}
  nodeSelector: {disk: ssd}
  tolerations: [{key: spark, operator: Exists, effect: NoSchedule}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: []}]}}}
  priorityClassName: high
  volumes:
  - {name: a, mountPath: /a, hostPath: {path: /srv}}
  - {name: b, mountPath: /b, nfs: {server: filer, path: /export}, readOnly: true}
  - {name: c, mountPath: /c, persistentVolumeClaim: {claimName: shared}, subPath: x}
  - {name: d, mountPath: /d, emptyDir: {medium: Memory, sizeLimit: 1Gi}}
  - {name: e, mountPath: /e, secret: {secretName: s}}
",
    )
    .unwrap();
    assert_eq!(spec.image.pull_policy, Some(PullPolicy::Always));
    assert_eq!(spec.spark_conf["spark.sql.shuffle.partitions"], "64");
    assert_eq!(
        spec.env["TOKEN"],
        EnvValue::SecretKey {
            name: "s".into(),
            key: "k".into()
        }
    );
    let s3 = spec.s3.unwrap();
    assert_eq!(s3.secret.unwrap().secret_key, "AWS_SECRET_ACCESS_KEY");
    assert_eq!(spec.web_ui.service_type, ServiceType::LoadBalancer);
    let policy = spec.network_policy.unwrap();
    assert!(policy.web_uis_from[0].namespace_selector.is_some());
    assert_eq!(policy.drivers_from[0].ip_block.as_ref().unwrap().cidr, "192.0.2.0/24");
    let pod = &spec.workers.pod;
    assert_eq!(pod.volumes.len(), 5);
    assert_eq!(pod.tolerations[0].key.as_deref(), Some("spark"));
    assert!(pod.affinity.is_some());
    assert!(
        matches!(&spec.workers.shuffle, VolumeSource::NewClaim(claim) if claim.storage_class.as_deref() == Some("fast"))
    );
}

#[test]
fn history_is_true_or_a_mapping() {
    assert_eq!(from_file("history: false\n").unwrap().history, None);
    let history = from_file("history: true\n").unwrap().history.unwrap();
    let claim = NewClaim {
        size: Memory::from_mib(20 * 1024),
        storage_class: None,
        access_mode: "ReadWriteMany".into(),
    };
    assert_eq!(history.event_logs, EventLogs::Volume(VolumeSource::NewClaim(claim)));
    assert_eq!((history.max_files_to_retain, history.max_age.as_str()), (10, "7d"));

    let flag = Overrides {
        history: true,
        ..Overrides::default()
    };
    assert_eq!(resolve(None, &flag).unwrap().history, Some(history));

    let text = "s3: {endpoint: 'http://minio:9000'}\nhistory: {eventLogs: 's3a://logs/spark', maxAge: 30d, \
                rolling: {maxFileSize: 64m, maxFilesToRetain: 2}, daemonMemory: 1g, resources: {limits: {memory: 2Gi}}}\n";
    let history = from_file(text).unwrap().history.unwrap();
    assert_eq!(history.event_logs, EventLogs::S3("s3a://logs/spark".into()));
    assert_eq!(history.max_file_size, Memory::from_mib(64));
    assert_eq!(history.pod.resources.memory_limit, Memory::from_mib(2048));

    let told = |text: &str| from_file(text).unwrap_err().to_string();
    for (text, expected) in [
        (
            "history: maybe\n",
            "1:10: history: must be `true` or `false` or a mapping",
        ),
        ("history: {eventLogs: 's3a://logs'}\n", "require s3"),
        ("history: {eventLogs: {emptyDir: {}}}\n", "cannot share this volume"),
        ("history: {eventLogs: 'hdfs://x/y'}\n", "is not a folder in an S3 store"),
        ("history: {maxAge: 7 days}\n", "is not a duration"),
        (
            "history: {rolling: {maxFileSize: 1m, maxFilesToRetain: 0}}\n",
            "is out of range",
        ),
        (
            "history: {rolling: {maxFileSize: 1m}}\n",
            "does not roll files below 10Mi",
        ),
        ("history: {retain: 1}\n", "1:11: history.retain: unknown key"),
        (
            "history: true\nsparkConf: {spark.eventLog.dir: /x}\n",
            "2:33: sparkConf.spark.eventLog.dir",
        ),
    ] {
        assert!(told(text).contains(expected), "{expected}\n{}", told(text));
    }
}

#[test]
fn a_connect_server_leaves_half_of_the_cluster_to_jobs() {
    let connect = |text: &str| from_file(text).unwrap().connect.unwrap();
    let usual = connect("connect: true\nworkers: {count: 3, cores: 4}\n");
    // Whole executors: each worker has one with four cores.
    assert_eq!((usual.cores, usual.executor_cores), (4, 4));
    assert_eq!(usual.executor_memory, Memory::from_mib(663));
    assert_eq!(usual.pod.resources.memory_limit, Memory::from_mib(1536));
    let small = connect("connect: true\nworkers: {count: 1, memory: 1350Mi}\n");
    assert_eq!((small.cores, small.executor_memory), (1, Memory::from_mib(512)));
    let said = connect("connect: {cores: 2, driverMemory: 4g, executorMemory: 600m}\n");
    assert_eq!((said.cores, said.executor_memory), (2, Memory::from_mib(600)));
    assert!(said.pod.resources.memory_limit > said.driver_memory);

    let own = "connect: {env: {SPARK_CONNECT_AUTHENTICATE_TOKEN: {secretKeyRef: {name: s, key: k}}}}\n";
    for (text, token) in [
        ("connect: true\n", ConnectToken::OfCluster),
        (
            "connect: true\nauthentication: {secret: ours}\n",
            ConnectToken::OfCluster,
        ),
        ("connect: {authentication: false}\n", ConnectToken::None),
        ("connect: true\nauthentication: {enabled: false}\n", ConnectToken::None),
        (own, ConnectToken::OfUser),
    ] {
        assert_eq!(connect(text).token, token, "{text}");
    }

    let told = |text: &str| from_file(text).unwrap_err().to_string();
    for (text, expected) in [
        (
            "authentication: {enabled: false}\nconnect: {authentication: true}\n",
            "2:27: connect.authentication: without authentication there is no Secret",
        ),
        (
            "connect: {driverMemory: 256m}\n",
            "1:25: connect.driverMemory: a driver cannot start",
        ),
        (
            "connect: {executorMemory: 4g}\n",
            "no worker can start executors of 4Gi",
        ),
        (
            "connect: {driverMemory: 4g, resources: {limits: {memory: 2Gi}}}\n",
            "does not fit into a pod of 2Gi",
        ),
        ("connect: {cores: 0}\n", "is out of range"),
    ] {
        assert!(told(text).contains(expected), "{expected}\n{}", told(text));
    }
}

#[test]
fn all_mistakes_are_reported_together() {
    let text = "\
name: Spark
imagee: spark
image: 'spark :4'
masters:
  count: 9
  daemonMemory: 4Gi
  env: {SPARK_MASTER_HOST: a}
workers:
  count: many
  memory: 1Gi
  volumes:
  - {name: conf, mountPath: /x, emptyDir: {}}
  - {name: two, mountPath: relative, emptyDir: {}}
  - {name: none, mountPath: /none}
  tolerations: [{keyy: a}]
  priorityClassName: High
zookeeper:
  count: 2
  failoverSeconds: 90
sparkConf:
  spark.master: local
  spark.hadoop.fs.s3a.secret.key: abc
env: {1A: b}
s3: {endpoint: minio}
authentication: {enabled: false, secret: mine}
webUi: {nodePort: 30080, domain: a_b}
networkPolicy: {webUisFrom: [{podSelector: {matchLabel: {a: b}}}, {ipBlock: {cidr: 192.0.2.1}}], driversFrom: [{}]}
labels: {app.kubernetes.io/name: x}
";
    let problems = from_file(text).unwrap_err();
    let told: Vec<_> = problems
        .list
        .iter()
        .map(|problem| match &problem.location {
            crate::spec::problem::Location::File { line, path, .. } => format!("{line} {path}"),
            crate::spec::problem::Location::Flag(flag) => (*flag).to_owned(),
        })
        .collect();
    assert_eq!(
        told,
        [
            "1 name",
            "2 imagee",
            "3 image",
            "5 masters.count",
            "6 masters.daemonMemory",
            "7 masters.env.SPARK_MASTER_HOST",
            "9 workers.count",
            "10 workers.memory",
            "12 workers.volumes[0].name",
            "13 workers.volumes[1].mountPath",
            "14 workers.volumes[2]",
            "15 workers.tolerations[0].keyy",
            "16 workers.priorityClassName",
            "18 zookeeper.count",
            "19 zookeeper.failoverSeconds",
            "21 sparkConf.spark.master",
            "22 sparkConf.spark.hadoop.fs.s3a.secret.key",
            "23 env.1A",
            "24 s3.endpoint",
            "25 authentication.secret",
            "26 webUi.nodePort",
            "26 webUi.domain",
            "27 networkPolicy.webUisFrom[0].podSelector.matchLabel",
            "27 networkPolicy.webUisFrom[1].ipBlock",
            "27 networkPolicy.driversFrom[0]",
            "28 labels.app.kubernetes.io/name",
        ]
    );
    assert!(problems.list.iter().all(|problem| problem.help.is_some()), "{problems}");
}

#[test]
fn a_key_without_a_value_is_a_mistake_only_if_its_meaning_is_unknown() {
    // As if the keys were missing.
    let text = "masters:\nsparkConf:\nworkers: {count: ~, affinity: {nodeAffinity: null}}\nenv: {A: ~}\n";
    let spec = from_file(text).unwrap();
    assert_eq!((spec.workers.count, spec.env.len()), (2, 0));
    let told = |text: &str| from_file(text).unwrap_err().to_string();
    for (text, expected) in [
        (
            "wrokers:\n",
            "1:1: wrokers: unknown key\n  help: did you mean `workers`?",
        ),
        (
            "workers: {cont: ~}\n",
            "1:11: workers.cont: unknown key\n  help: did you mean `count`?",
        ),
        (
            "workers: {count 3}\n",
            "1:11: workers.count 3: this key has no value\n  help: is `:` or a space missing? write it like `key: value`",
        ),
        ("workers: {count:3}\n", "1:11: workers.count:3: this key has no value"),
        ("env: {A:3}\n", "1:7: env.A:3: this key has no value"),
        ("s3: {secret: {name: ~}}\n", "s3.secret: `name` is missing"),
        (
            "history:\n",
            "1:1: history: this key has no value\n  help: write `history: true` or `history: false`",
        ),
        ("dynamicAllocation: ~\n", "dynamicAllocation: this key has no value"),
    ] {
        assert!(told(text).contains(expected), "{expected}\n{}", told(text));
    }
}

#[test]
fn volumes_that_kubernetes_refuses_or_that_hide_other_files_are_refused() {
    let volume = |rest: &str| from_file(&format!("workers: {{volumes: [{{name: a, {rest}}}]}}\n"));
    for wrong in [
        "mountPath: /a, emptyDir: {}, subPath: ../x",
        "mountPath: /a, emptyDir: {}, subPath: /x",
        "mountPath: /a, hostPath: {path: /a/../b}",
        "mountPath: /a, hostPath: {path: /a, type: Folder}",
        "mountPath: /opt, emptyDir: {}",
        "mountPath: /etc/, emptyDir: {}",
        "mountPath: /var, emptyDir: {}",
        "mountPath: //tmp/./x, emptyDir: {}",
        "mountPath: /a, emptyDir: {}}, {name: b, mountPath: /a/, emptyDir: {}",
    ] {
        let problems = volume(wrong).unwrap_err();
        assert_eq!(problems.list.len(), 1, "{wrong}: {problems}");
    }
    for right in [
        "mountPath: /a, emptyDir: {}, subPath: x/..y",
        "mountPath: /a, hostPath: {path: /a, type: DirectoryOrCreate}",
        "mountPath: /opt/data, emptyDir: {}",
        "mountPath: /etc/hive, emptyDir: {}",
        "mountPath: /var/lib/data, emptyDir: {}",
    ] {
        assert!(volume(right).is_ok(), "{right}");
    }
    let typed = volume("mountPath: /a, hostPath: {path: /a, type: File}").unwrap();
    assert!(
        matches!(&typed.workers.pod.volumes[0].source, VolumeSource::HostPath { kind: Some(kind), .. } if kind == "File")
    );
}

#[test]
fn each_mistake_is_told_once_with_a_remedy_that_works() {
    for (text, mistake, help) in [
        (
            "history: {maxAge: 7}\n",
            "history.maxAge: `7` is not a duration",
            "write it like 12h or 7d",
        ),
        (
            "workers: {count: '4'}\n",
            "must be a whole number, not the text `4`",
            "remove the quotes",
        ),
        (
            "history: 'true'\n",
            "must be `true` or `false` or a mapping, not the text `true`",
            "remove the quotes",
        ),
        (
            "workers: {count: -1}\n",
            "-1 is out of range",
            "choose a number from 0 to 1000",
        ),
        (
            "dynamicAllocation: {maxExecutors: -1}\n",
            "-1 is out of range",
            "choose a number of at least 0",
        ),
        (
            "dynamicAllocation: {maxExecutors: 5000000000}\n",
            "is out of range",
            "choose a smaller number",
        ),
        (
            "workers: {cores: 0}\n",
            "`0` is not an amount of CPU",
            "write it like 2, 1.5 or 1500m",
        ),
        (
            "env: [{name: A, value: b}]\n",
            "env: must be a mapping, not a list",
            "write each as `NAME: value`",
        ),
        (
            "s3: {secret: s3-keys}\n",
            "must be a mapping",
            "write `secret: {name: s3-keys}`",
        ),
        (
            "workers: {shuffle: {hostPath: /srv}}\n",
            "must be a mapping",
            "write `hostPath: {path: /srv}`",
        ),
        (
            "zookeeper: {storage: 1Gi}\n",
            "must be a mapping",
            "write `storage: {size: 1Gi}`",
        ),
        (
            "networkPolicy: false\n",
            "must be a mapping",
            "write `networkPolicy: {enabled: false}`",
        ),
        (
            "authentication: false\n",
            "must be a mapping",
            "write `authentication: {enabled: false}`",
        ),
        (
            "zookeeper: {external: {servers: 'zk:2181'}}\n",
            "must be a list, not the text `zk:2181`",
            "write a list",
        ),
        (
            "workers: {memory: true}\n",
            "must be text or a number, not the boolean `true`",
            "write text or a number",
        ),
        ("tls: {secrt: x}\n", "unknown key", "did you mean `secret`?"),
    ] {
        let problems = from_file(text).unwrap_err();
        assert_eq!(problems.list.len(), 1, "{text}: {problems}");
        assert!(
            problems.list[0].message.contains(mistake) || problems.to_string().contains(mistake),
            "{text}: {problems}"
        );
        assert_eq!(problems.list[0].help.as_deref(), Some(help), "{text}");
    }
}

#[test]
fn workers_have_a_count_or_an_autoscaler_but_not_both() {
    let spec = from_file("workers: {autoscale: {min: 2, max: 5}, drainSeconds: 60}\n").unwrap();
    let autoscale = Autoscale {
        min: 2,
        max: 5,
        cpu_percent: 80,
    };
    assert_eq!(spec.workers.autoscale, Some(autoscale));
    assert_eq!((spec.workers.count, spec.workers.drain_seconds), (2, 60));
    let spec = from_file("workers: {count: 2}\n").unwrap();
    assert_eq!((spec.workers.autoscale, spec.workers.drain_seconds), (None, 300));
    for (text, location) in [
        ("workers: {count: 2, autoscale: {min: 2, max: 5}}\n", "workers.count"),
        ("workers: {autoscale: {min: 3, max: 2}}\n", "workers.autoscale.min"),
        ("workers: {autoscale: {min: 0, max: 2}}\n", "workers.autoscale.min"),
        ("workers: {autoscale: {max: 2}}\n", "workers.autoscale"),
        ("workers: {drainSeconds: -1}\n", "workers.drainSeconds"),
    ] {
        let problems = from_file(text).unwrap_err();
        assert_eq!(problems.list.len(), 1, "{text}: {problems:?}");
        assert!(problems.to_string().contains(location), "{text}: {problems}");
    }
}

#[test]
fn dynamic_allocation_is_a_boolean_or_limits() {
    let allocation = |text: &str| from_file(text).map(|spec| spec.dynamic_allocation);
    let bounds = |min_executors, max_executors| {
        Ok(Some(ExecutorsFile {
            min_executors,
            max_executors,
        }))
    };
    let same = |text: &str, expected: Result<Option<ExecutorsFile>, Problems>| {
        assert_eq!(allocation(text).ok(), expected.ok(), "{text}");
    };
    same("dynamicAllocation: true\n", bounds(None, None));
    same("dynamicAllocation: {maxExecutors: 4}\n", bounds(None, Some(4)));
    same("dynamicAllocation: false\n", Ok(None));
    for wrong in [
        "dynamicAllocation: {minExecutors: 4, maxExecutors: 3}\n",
        "dynamicAllocation: {maxExecutors: 0}\n",
        "dynamicAllocation: {executors: 3}\n",
        "dynamicAllocation: 3\n",
    ] {
        assert!(allocation(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_application_gets_half_of_the_cluster_by_default() {
    let default = |text: &str| from_file(text).unwrap().default_cores;
    assert_eq!(default(""), Some(1));
    let large = "workers: {count: 4, cores: 2, memory: 8Gi}\n";
    assert_eq!(default(large), Some(4));
    assert_eq!(default("workers: {count: 3}\n"), Some(2));
    // The server has four of eight cores.
    assert_eq!(default(&format!("connect: true\n{large}")), Some(2));
    assert_eq!(default("workers: {autoscale: {min: 1, max: 8}}\n"), Some(4));
    // The cluster has only one executor.
    assert_eq!(default("workers: {count: 1, cores: 2}\n"), Some(2));
    assert_eq!(default("defaultCores: all\n"), None);
    assert_eq!(default("defaultCores: 5\n"), Some(5));
    assert_eq!(default("sparkConf: {spark.deploy.defaultCores: 3}\n"), Some(3));
    let flags = Overrides {
        default_cores: Some("7".into()),
        ..Overrides::default()
    };
    assert_eq!(resolve(None, &flags).unwrap().default_cores, Some(7));

    let told = |text: &str| from_file(text).unwrap_err().to_string();
    for (text, expected) in [
        (
            "defaultCores: some\n",
            "1:15: defaultCores: `some` is not a number of cores",
        ),
        ("defaultCores: 0\n", "`0` is not a number of cores"),
        (
            "defaultCores: 2\nsparkConf: {spark.cores.max: 2}\n",
            "sparkConf sets the same limit with spark.cores.max",
        ),
        (
            "defaultCores: 1\nsparkConf: {spark.executor.cores: 2}\nworkers: {cores: 2}\n",
            "fewer than one executor has",
        ),
    ] {
        assert!(told(text).contains(expected), "{expected}\n{}", told(text));
    }
}

#[test]
fn spark_conf_sets_the_size_of_executors() {
    let workers = |text: &str| {
        from_file(&format!("{text}workers: {{cores: 8, memory: 8Gi}}\n"))
            .unwrap()
            .workers
    };
    let usual = workers("");
    assert_eq!((usual.executors, usual.executor.cores), (2, 4));
    assert_eq!(usual.executor.memory, Memory::from_mib(2670));
    let said = workers("sparkConf: {spark.executor.memory: 1g, spark.executor.cores: 1}\n");
    assert_eq!((said.executors, said.offer.memory), (4, Memory::from_mib(4636)));
    // Without Python, one tenth, as on Kubernetes.
    let jvm = workers("sparkConf: {spark.executor.memoryOverheadFactor: 0.1}\n");
    assert_eq!(jvm.executor.memory, Memory::from_mib(3534));
    let fixed = workers("sparkConf: {spark.executor.memoryOverhead: 1g}\n");
    assert_eq!(fixed.executor.memory, Memory::from_mib(2894));
    // An application limited to so few cores would get no executor with four cores.
    assert_eq!(workers("sparkConf: {spark.cores.max: 2}\n").executor.cores, 2);
    // Less than sparkha would choose, but executors start with it.
    let small = workers("sparkConf: {spark.executor.memory: 500m}\n");
    assert_eq!(small.executor.memory, Memory::from_mib(500));
    let told = |text: &str| from_file(text).unwrap_err().to_string();
    for (text, expected) in [
        (
            "sparkConf: {spark.executor.memory: 9g}\n",
            "sparkConf.spark.executor.memory: an executor with a heap of 9Gi",
        ),
        (
            "sparkConf: {spark.executor.cores: 2}\n",
            "sparkConf.spark.executor.cores: an executor with 2 cores",
        ),
        ("sparkConf: {spark.executor.cores: two}\n", "`two` is not a number"),
        (
            "sparkConf: {spark.executor.memory: 300m}\n",
            "sparkConf.spark.executor.memory: an executor cannot start with a heap of 300Mi\n  help: set at least 480m",
        ),
        (
            "sparkConf: {spark.executor.memory: 0}\n",
            "cannot start with a heap of 0",
        ),
        (
            "sparkConf: {spark.executor.memory: 1.5g}\n",
            "`1.5g` is not an amount of memory in Spark's notation\n  help: write a whole number",
        ),
    ] {
        assert!(told(text).contains(expected), "{expected}\n{}", told(text));
    }
}
