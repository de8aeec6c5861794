//! A shell script that removes a rendered cluster with kubectl only, for manifests that were applied manually.

use super::Resource;
use crate::model::kind::Kind;
use crate::model::labels::cluster_selector;
use crate::spec::ClusterSpec;

/// The script for a cluster with these resources.
pub fn teardown_script(spec: &ClusterSpec, resources: &[Resource]) -> String {
    let removals: String = in_teardown_order(resources.iter().map(|r| (r.kind, r.name.as_str())))
        .into_iter()
        .map(|(kind, name)| format!("remove {} {name}\n", kind.name().to_lowercase()))
        .collect();
    let namespace = spec.namespace.as_ref();
    let (default, option) = match namespace {
        Some(namespace) => (namespace.to_string(), format!("--namespace={namespace}")),
        None => ("that of the kubeconfig".into(), String::new()),
    };
    include_str!("files/teardown.sh")
        .replace("@NAME@", spec.name.as_str())
        .replace(
            "@DEFAULT@",
            &format!("The namespace is {default} unless you pass another."),
        )
        .replace("@NAMESPACE@", &option)
        .replace("@SELECTOR@", &cluster_selector(&spec.name))
        .replace("@REMOVALS@\n", &removals)
}

/// The reverse order of applying: workers, masters, ZooKeeper servers, then their dependencies, and the inventory last.
pub fn in_teardown_order<'a>(objects: impl IntoIterator<Item = (Kind, &'a str)>) -> Vec<(Kind, &'a str)> {
    let mut objects: Vec<_> = objects.into_iter().collect();
    objects.reverse();
    objects.sort_by_key(|&(kind, _)| std::cmp::Reverse(kind));
    objects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_go_first_and_the_inventory_last() {
        let applied = [
            (Kind::ConfigMap, "spark-sparkha"),
            (Kind::ConfigMap, "spark-conf"),
            (Kind::Service, "spark-master"),
            (Kind::StatefulSet, "spark-zookeeper"),
            (Kind::StatefulSet, "spark-master"),
            (Kind::StatefulSet, "spark-worker"),
        ];
        assert_eq!(
            in_teardown_order(applied),
            [
                (Kind::StatefulSet, "spark-worker"),
                (Kind::StatefulSet, "spark-master"),
                (Kind::StatefulSet, "spark-zookeeper"),
                (Kind::Service, "spark-master"),
                (Kind::ConfigMap, "spark-conf"),
                (Kind::ConfigMap, "spark-sparkha"),
            ]
        );
    }
}
