//! sparkha in a real cluster: the router and the route watch as Deployments under their Role, and routes by the cluster's own objects.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::kit::http::{ask, get};
use crate::kit::pods::every_pod_is_restricted;
use crate::kit::server::Server;
use crate::kit::{Sandbox, kubeconfig};

const READY: Duration = Duration::from_secs(180);

/// An image with the sparkha that is tested.
fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        // A cluster that is not the testbed must have been given one.
        if let Ok(image) = std::env::var("SPARKHA_TEST_IMAGE") {
            return image;
        }
        let tag = format!("sparkha.test/sparkha:{}", std::process::id());
        let testbed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/testbed.sh");
        let program = assert_cmd::cargo::cargo_bin!("sparkha");
        let made = Command::new(testbed)
            .arg("image")
            .arg(program)
            .arg(&tag)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        tag
    })
}

/// Address of the node, which its pods can reach.
fn node(sandbox: &Sandbox) -> String {
    sandbox.kubectl_cluster(&["get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}"])
}

fn cluster_ip(sandbox: &Sandbox, service: &str) -> String {
    sandbox.kubectl(&["get", "service", service, "-o", "jsonpath={.spec.clusterIP}"])
}

fn pod_ip(sandbox: &Sandbox, pod: &str) -> String {
    sandbox.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"])
}

/// What a service account may do in a namespace.
fn may(sandbox: &Sandbox, account: &str, verb: &str, resource: &str, namespace: &str) -> bool {
    let account = format!("--as=system:serviceaccount:{}:{account}", sandbox.namespace);
    let kubeconfig = kubeconfig();
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("--kubeconfig").arg(kubeconfig);
    let asked = kubectl.args(["auth", "can-i", verb, resource, "--namespace", namespace, &account]);
    asked.output().unwrap().status.success()
}

#[test]
fn the_router_and_the_watch_run_in_the_cluster_with_the_least_rights() {
    let sandbox = Sandbox::new("deployed");
    let before = sandbox.contents();
    sandbox.run(&["create", "--masters", "1", "--workers", "1"]).exits(0);
    let namespace = sandbox.namespace.as_str();

    sandbox.run(&["router", "--deploy"]).exits(2).says("--image");
    sandbox
        .run(&["router", "-A", "--deploy", "--image", image()])
        .exits(2)
        .says("one namespace");
    let deploy = [
        "router",
        "--deploy",
        "--image",
        image(),
        "--open",
        "--dns",
        "0.0.0.0",
        "--address",
        "192.0.2.7",
    ];
    sandbox.run(&deploy).exits(0);
    // Again, it changes nothing.
    sandbox.run(&deploy).exits(0);
    assert_eq!(every_pod_is_restricted(&sandbox), 3);
    let front = cluster_ip(&sandbox, "sparkha-router");
    let master = format!("spark-master.{namespace}.k8s");
    let worker_host = format!(
        "spark-{}.{namespace}.k8s",
        pod_ip(&sandbox, "spark-worker-0").replace('.', "-")
    );
    let answers = |port: u16, host: &str| get(&format!("{front}:{port}"), host, "/json/");
    sandbox.wait_for(READY, "the leader by its name", || {
        answers(80, &master).is_some_and(|(status, body)| status == 200 && body.contains("ALIVE"))
    });
    assert!(answers(8080, &master).unwrap().1.contains("ALIVE"));
    assert!(answers(8081, &worker_host).unwrap().1.contains("masterurl"));
    let kubernetes = cluster_ip_of_the_api_server(&sandbox);
    for host in [
        "169.254.169.254",
        &kubernetes,
        &node(&sandbox),
        "spark-10-96-0-1.default.k8s",
    ] {
        let (status, body) = answers(80, host).unwrap();
        assert_eq!(status, 404, "{host}");
        assert!(body.contains(&master), "a page that helps: {body}");
    }
    let dns = cluster_ip(&sandbox, "sparkha-router-dns");
    let found = crate::kit::dns::addresses((dns.as_str(), 53), &master);
    assert_eq!(found, Some(vec![[192, 0, 2, 7]]));

    // The watch writes into an etcd on the node.
    let folder = tempfile::tempdir().unwrap();
    let client = format!("http://{}:23790", node(&sandbox));
    let peer = "http://127.0.7.31:2380";
    let _etcd = Server::start(
        Command::new("/usr/bin/etcd")
            .arg("--data-dir")
            .arg(folder.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"]),
    );
    let etcd = client.trim_start_matches("http://").to_owned();
    sandbox
        .run(&[
            "route",
            "watch",
            "--etcd",
            &etcd,
            "--ttl",
            "10s",
            "--deploy",
            "--image",
            image(),
        ])
        .exits(0);
    assert_eq!(every_pod_is_restricted(&sandbox), 4);
    let count = || {
        let all = r#"{"key": "L3Z1bGNhbmQv", "range_end": "L3Z1bGNhbmQw", "count_only": true}"#;
        let (_, answer) = ask(&etcd, "POST", "/v3/kv/range", "", all)?;
        let answer: Value = serde_json::from_str(&answer).ok()?;
        answer["count"].as_str().map_or(Some(0), |count| count.parse().ok())
    };
    // Leader, master and worker with three keys each, and two listeners.
    sandbox.wait_for(READY, "the routes in etcd", || count() == Some(3 * 3 + 2));
    sandbox.run(&["create", "--masters", "1", "--workers", "2"]).exits(0);
    sandbox.wait_for(READY, "the second worker's route", || count() == Some(4 * 3 + 2));

    for account in ["sparkha-router", "sparkha-route-watch"] {
        assert!(may(&sandbox, account, "watch", "pods", namespace));
        assert!(may(&sandbox, account, "list", "configmaps", namespace));
        for (verb, resource) in [
            ("get", "secrets"),
            ("create", "pods"),
            ("delete", "pods"),
            ("update", "configmaps"),
        ] {
            assert!(
                !may(&sandbox, account, verb, resource, namespace),
                "{account} {verb} {resource}"
            );
        }
        assert!(!may(&sandbox, account, "list", "pods", "kube-system"));
    }

    sandbox.run(&["route", "watch", "--undeploy"]).exits(0);
    sandbox.run(&["router", "--undeploy"]).exits(0);
    sandbox.wait_for(READY, "the leases' end", || count() == Some(2));
    sandbox.run(&["teardown"]).exits(0);
    sandbox.wait_for(READY, "the namespace as it was", || sandbox.contents() == before);
}

fn cluster_ip_of_the_api_server(sandbox: &Sandbox) -> String {
    sandbox.kubectl_cluster(&[
        "get",
        "service",
        "kubernetes",
        "--namespace",
        "default",
        "-o",
        "jsonpath={.spec.clusterIP}",
    ])
}

#[test]
fn an_ingress_has_services_that_lead_to_the_pods() {
    let sandbox = Sandbox::new("ingress");
    sandbox.run(&["create", "--masters", "1", "--workers", "1"]).exits(0);
    let objects = sandbox.run(&["route", "render", "--format", "ingress"]).exits(0).stdout;
    sandbox.apply(&objects);
    // The same again is the same.
    assert_eq!(sandbox.run(&["route", "render", "--format", "ingress"]).stdout, objects);
    let hosts = sandbox.kubectl(&["get", "ingress", "spark-ui", "-o", "jsonpath={.spec.rules[*].host}"]);
    assert!(
        hosts.contains(&format!("spark-master.{}.k8s", sandbox.namespace)),
        "{hosts}"
    );
    for (service, pod, port) in [
        ("spark-leader-ui", "spark-master-0", 8080),
        ("spark-worker-0-ui", "spark-worker-0", 8081),
    ] {
        let address = pod_ip(&sandbox, pod);
        let slices = || {
            let label = format!("kubernetes.io/service-name={service}");
            sandbox.kubectl(&[
                "get",
                "endpointslices",
                "-l",
                &label,
                "-o",
                "jsonpath={.items[*].endpoints[*].addresses[*]}",
            ])
        };
        sandbox.wait_for(READY, "the slice", || slices() == address);
        let front = cluster_ip(&sandbox, service);
        sandbox.wait_for(READY, "the Service", || {
            get(&format!("{front}:{port}"), "any", "/json/").is_some_and(|(status, _)| status == 200)
        });
    }
    sandbox.run(&["teardown"]).exits(0);
}
