//! Lists the settings of a cluster that have no effect on this machine, because it has no kubelet, pod network or images. Pure.

use k8s_openapi::api::core::v1::{Affinity, PodSpec, Volume};

use super::software::Software;
use super::store::DesiredState;
use crate::model::kind::Kind;
use crate::spec::image::version_in_image;
use crate::spec::resolve::RESERVED_VOLUMES;

/// The text in the image's line if the image's Spark has another version than the installed one.
pub const ANOTHER_VERSION: &str = "another version";

/// One line for each setting. `cgroups`: whether memory and CPU can be limited.
pub fn limits(desired: &DesiredState, cgroups: bool) -> Vec<String> {
    let mut lines = vec![
        image(desired),
        "pods' user 185, read-only root and dropped capabilities: processes run as you".into(),
        "DNS: Java finds the cluster's names, those of /etc/hosts and of servers in the cluster's configuration".into(),
    ];
    if !cgroups {
        lines.push("limits of memory and processors: you may not create control groups; heap sizes still apply".into());
    }
    let sets = desired.sets();
    let pods: Vec<_> = sets
        .iter()
        .filter_map(|set| Some((set.metadata.name.clone()?, set.spec.template.spec.as_ref()?)))
        .collect();
    let mut of_pods = |what: &str, has: &dyn Fn(&PodSpec) -> bool| {
        let having = pods.iter().filter(|(_, pod)| has(pod));
        let names: Vec<_> = having.map(|(name, _)| name.as_str()).collect();
        if !names.is_empty() {
            lines.push(format!("{what} ({})", names.join(", ")));
        }
    };
    of_pods("node selectors: there is one node", &|pod| pod.node_selector.is_some());
    of_pods("node affinity: there is one node", &|pod| {
        affinity(pod).is_some_and(|affinity| affinity.node_affinity.is_some())
    });
    of_pods("pods on different nodes: there is one node", &|pod| {
        let anti_affinity = affinity(pod).and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        pod.topology_spread_constraints.is_some()
            || anti_affinity.is_some_and(|terms| terms.required_during_scheduling_ignored_during_execution.is_some())
    });
    of_pods("priority classes", &|pod| pod.priority_class_name.is_some());
    let mut of_volumes = |what: &str, has: &dyn Fn(&Volume) -> bool| {
        of_pods(what, &|pod| pod.volumes.iter().flatten().any(has));
    };
    of_volumes("size limits of emptyDirs", &|volume| {
        volume
            .empty_dir
            .as_ref()
            .is_some_and(|source| source.size_limit.is_some())
    });
    of_volumes("emptyDirs in memory: they are on disk", &|volume| {
        volume.empty_dir.as_ref().is_some_and(|source| source.medium.is_some())
    });
    of_volumes("NFS volumes: mount them yourself and use hostPath", &|volume| {
        volume.nfs.is_some()
    });
    of_volumes("existing claims: each is a folder of its name", &|volume| {
        let claim = volume.persistent_volume_claim.as_ref();
        claim.is_some_and(|claim| !desired.owns_claim(&claim.claim_name))
    });
    of_volumes(
        "mount paths of your own volumes: they are translated in commands, arguments and environment only",
        // Not one that sparkha renders itself.
        &|volume| !RESERVED_VOLUMES.contains(&volume.name.as_str()),
    );
    let claims = sets.iter().filter(|set| set.spec.volume_claim_templates.is_some());
    let claims: Vec<_> = claims.filter_map(|set| set.metadata.name.clone()).collect();
    if !claims.is_empty() {
        let names = claims.join(", ");
        lines.push(format!("storage classes, access modes and sizes of claims ({names})"));
    }
    let kinds = desired.services().into_iter().filter_map(|service| service.spec?.type_);
    if kinds.into_iter().any(|kind| kind != "ClusterIP") {
        lines.push("node ports and load balancers: the web UI is at the pods' own addresses".into());
    }
    let has_any = |kind| desired.resources.iter().any(|resource| resource.kind == kind);
    if has_any(Kind::HorizontalPodAutoscaler) {
        lines.push("workers.autoscale: the minimum number of workers runs; `sparkha scale` changes it".into());
    }
    if has_any(Kind::NetworkPolicy) {
        lines.push("network policies: every user of this machine can reach the cluster's ports".into());
    }
    lines
}

/// The subjects of these lines, joined into one line.
pub fn subjects(lines: &[String]) -> String {
    let subject = |line: &String| {
        let end = line.find(": ").or_else(|| line.find(" ("));
        line[..end.unwrap_or(line.len())].to_owned()
    };
    lines.iter().map(subject).collect::<Vec<_>>().join("; ")
}

fn image(desired: &DesiredState) -> String {
    let Software {
        spark_home,
        spark_version,
        ..
    } = &desired.software;
    let pods = desired.sets().into_iter().filter_map(|set| set.spec.template.spec);
    let mut images = pods
        .flat_map(|pod| pod.containers)
        .filter_map(|container| container.image);
    let image = images.next().unwrap_or_default();
    let differs = version_in_image(&image).is_some_and(|version| version != *spark_version);
    let runs = format!("Spark {spark_version} at {} runs instead", spark_home.display());
    match differs {
        true => format!("the image {image}: {runs}, which is {ANOTHER_VERSION}"),
        false => format!("the image {image}: {runs}"),
    }
}

fn affinity(pod: &PodSpec) -> Option<&Affinity> {
    pod.affinity.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::render;
    use crate::spec::resolve::{Source, resolve};

    fn limits_of(text: &str) -> Vec<String> {
        let spec = resolve(Some(Source { name: "f", text }), &Default::default()).unwrap();
        let software = Software {
            spark_home: "/opt/spark".into(),
            spark_version: "4.3.0".into(),
            java_home: None,
            java_version: 17,
            path: String::new(),
        };
        limits(
            &DesiredState {
                software,
                resources: render(&spec).objects,
            },
            true,
        )
    }

    #[test]
    fn subjects_are_joined_into_one_line() {
        assert_eq!(
            subjects(&limits_of("")),
            "the image docker.io/apache/spark:4.3.0; pods' user 185, read-only root and dropped capabilities; DNS; \
             size limits of emptyDirs; network policies"
        );
    }

    #[test]
    fn lists_the_limits_of_the_default_and_of_a_demanding_cluster() {
        assert_eq!(
            limits_of(""),
            [
                "the image docker.io/apache/spark:4.3.0: Spark 4.3.0 at /opt/spark runs instead",
                "pods' user 185, read-only root and dropped capabilities: processes run as you",
                "DNS: Java finds the cluster's names, those of /etc/hosts and of servers in the cluster's configuration",
                "size limits of emptyDirs (spark-zookeeper, spark-master, spark-worker)",
                "network policies: every user of this machine can reach the cluster's ports",
            ]
        );
        let stored = limits_of("s3: {secret: {name: keys}}\n");
        assert!(!stored.iter().any(|line| line.contains("mount paths")), "{stored:#?}");
        let much = limits_of(
            "image: x/spark:3.5.1\nwebUi: {serviceType: NodePort}\nzookeeper: {storage: {size: 1Gi}}\n\
             workers: {autoscale: {min: 1, max: 3}, nodeSelector: {a: b}, priorityClassName: p, volumes: [{name: d, mountPath: /d, nfs: {server: s, path: /}}]}",
        );
        for part in [
            ANOTHER_VERSION,
            "node selectors",
            "priority",
            "NFS",
            "mount paths",
            "storage classes",
            "node ports",
            "workers.autoscale",
        ] {
            assert!(much.iter().any(|line| line.contains(part)), "{part}: {much:#?}");
        }
    }
}
