//! Compares the desired cluster with the live one, one line per difference. Decides whether the change needs
//! confirmation: objects are deleted, the layout changes, or pods restart under running applications. Pure.

use kube::ResourceExt;
use kube::core::DynamicObject;

use crate::lifecycle::applications::Applications;
use crate::lifecycle::plan::Plan;
use crate::model::kind::Kind;
use crate::model::labels::{COMPONENT, Component};
use crate::model::managed_fields::drops;
use crate::model::subset::contains;
use crate::platform::LiveObjects;
use crate::platform::kubernetes::FIELD_MANAGER;
use crate::render::Resource;
use crate::render::inventory::{CLUSTER_FILE, Inventory, ZooKeeperSummary};
use crate::spec::words::listed;

/// Where the desired cluster comes from, before flags.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A complete cluster file.
    File,
    /// The cluster file in the inventory; `None` if there is no cluster or its inventory has none.
    Inventory(Option<String>),
}

impl Origin {
    /// Whether the inventory still has the cluster file that the plan was made from.
    pub fn is_current(&self, inventory: Option<&Inventory>) -> bool {
        match self {
            Origin::File => true,
            Origin::Inventory(read) => *read == inventory.and_then(|inventory| inventory.cluster_file.clone()),
        }
    }
}

/// Differences between the desired and the live cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Differences {
    lines: Vec<String>,
    /// Pods that applications depend on restart or are deleted.
    disturbing: bool,
    /// The change deletes something.
    destructive: bool,
    /// The image changes.
    other_image: bool,
}

impl Differences {
    /// Whether the change would disturb running applications.
    pub fn are_disturbing(&self) -> bool {
        self.disturbing
    }

    /// Whether the change needs confirmation.
    pub fn need_confirmation(&self) -> bool {
        self.destructive || self.other_image
    }

    /// The user requested the new image, so it needs no confirmation.
    pub fn accept_image(&mut self) {
        self.other_image = false;
    }

    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Adds the applications that the change would disturb.
    pub fn disturb(&mut self, applications: &Applications) {
        if let Some(line) = applications.line() {
            self.lines.push(line);
            self.destructive = true;
        }
    }

    fn layout<T: PartialEq + std::fmt::Display>(&mut self, what: &str, old: T, new: T) {
        self.destructive |= old != new;
        self.changed(what, old, new);
    }

    fn changed<T: PartialEq + std::fmt::Display>(&mut self, what: &str, old: T, new: T) {
        if old != new {
            self.lines.push(format!("{what}: {old} → {new}"));
        }
    }

    fn part(&mut self, what: &str, old: bool, new: bool) {
        if old != new {
            let verb = if new { "added" } else { "removed" };
            self.lines.push(format!("{what}: {verb}"));
        }
    }
}

/// Compares the inventory with the plan. A cluster without StatefulSets has nothing to lose. Without an inventory the
/// plan applies every object again, so only restarting pods count as a difference.
pub fn differences(
    old: Option<&Inventory>,
    new: &Inventory,
    plan: &Plan,
    live: &LiveObjects,
    origin: &Origin,
) -> Differences {
    let mut differences = Differences::default();
    let is_living = live.keys().any(|(kind, _)| *kind == Kind::StatefulSet);
    if !is_living {
        return differences;
    }
    let is_guess = *origin == Origin::Inventory(None);
    let is_changed = |resource: &&Resource| {
        let there = live.get(&(resource.kind, resource.name.clone()));
        there.is_some_and(|there| old.is_some() || restarts(resource, there) || recounted(resource, there).is_some())
    };
    if is_guess && (plan.apply.iter().any(|resource| is_changed(&resource)) || !plan.prune.is_empty()) {
        let line = format!(
            "its inventory has no {CLUSTER_FILE}: without -f, settings that no flag sets return to their defaults"
        );
        differences.lines.push(line);
        differences.destructive = true;
    }
    if let Some(old) = old {
        summaries(&mut differences, old, new, live);
    }
    for entry in &plan.prune {
        differences.lines.push(format!("{} {} deleted", entry.kind, entry.name));
        differences.destructive = true;
        differences.disturbing |= entry.kind == Kind::StatefulSet;
    }
    let mut in_place = Vec::new();
    for resource in plan.apply.iter().filter(is_changed) {
        let there = live.get(&(resource.kind, resource.name.clone()));
        // The comparison of inventories has reported the replicas already.
        let recounted = there
            .filter(|_| old.is_none())
            .and_then(|there| recounted(resource, there));
        if let Some((had, gets)) = recounted {
            differences
                .lines
                .push(format!("pods of {}: {had} → {gets}", resource.name));
            differences.disturbing |= gets < had;
        }
        match there.is_some_and(|there| restarts(resource, there)) {
            true => {
                differences.lines.push(format!("pods of {} restart", resource.name));
                // No application depends on the history server.
                let component = &resource.object["metadata"]["labels"][COMPONENT];
                differences.disturbing |= component != Component::History.as_str();
            }
            false if resource.kind != Kind::StatefulSet => {
                in_place.push(format!("{} {}", resource.kind, resource.name));
            }
            false => {}
        }
    }
    if !in_place.is_empty() {
        let line = format!("changed in place: {}", listed(&in_place));
        differences.lines.push(line);
    }
    differences
}

/// The live and desired replicas of a StatefulSet, if they differ.
fn recounted(resource: &Resource, there: &DynamicObject) -> Option<(u64, u64)> {
    let had = there.data["spec"]["replicas"].as_u64()?;
    let gets = resource.object["spec"]["replicas"].as_u64()?;
    (resource.kind == Kind::StatefulSet && had != gets).then_some((had, gets))
}

fn summaries(differences: &mut Differences, old: &Inventory, new: &Inventory, live: &LiveObjects) {
    let (before, after) = (&old.cluster, &new.cluster);
    differences.other_image = before.image != after.image;
    differences.changed("image", &before.image, &after.image);
    differences.layout("masters", before.masters, after.masters);
    differences.layout("ZooKeeper", ensemble(&before.zookeeper), ensemble(&after.zookeeper));
    if let (Some(before), Some(after)) = (failover(&before.zookeeper), failover(&after.zookeeper)) {
        differences.changed("failover after", before, after);
    }
    let set = live.get(&(Kind::StatefulSet, format!("{}-worker", before.name)));
    let there = set.and_then(|set| set.data["spec"]["replicas"].as_u64());
    let number = |inventory: &Inventory, count: u64| match inventory.is_autoscaled() {
        true => "autoscaled".to_owned(),
        false => count.to_string(),
    };
    let (had, gets) = (
        there.unwrap_or(before.workers.count.into()),
        u64::from(after.workers.count),
    );
    differences.changed("workers", number(old, had), number(new, gets));
    differences.disturbing |= gets < had && !new.is_autoscaled();
    differences.changed("cores of each worker", before.workers.cores, after.workers.cores);
    let memory = |mib: u64| format!("{mib} MiB");
    differences.changed(
        "memory of each worker",
        memory(before.workers.memory_mib),
        memory(after.workers.memory_mib),
    );
    differences.changed("UI domain", &before.ui_domain, &after.ui_domain);
    differences.part("history server", before.history, after.history);
    differences.part("Spark Connect server", before.connect, after.connect);
}

fn ensemble(zookeeper: &ZooKeeperSummary) -> String {
    match zookeeper {
        ZooKeeperSummary::None => "none".into(),
        ZooKeeperSummary::Managed { count, .. } => format!("{count} of its own"),
        ZooKeeperSummary::External { servers, directory, .. } => format!("{}{directory}", servers.join(",")),
    }
}

fn failover(zookeeper: &ZooKeeperSummary) -> Option<String> {
    match zookeeper {
        ZooKeeperSummary::Managed { failover_seconds, .. } => Some(format!("{failover_seconds} s")),
        _ => None,
    }
}

/// Whether applying this changes the pod template of a StatefulSet.
pub fn restarts(resource: &Resource, there: &DynamicObject) -> bool {
    if resource.kind != Kind::StatefulSet {
        return false;
    }
    let (desired, observed) = (&resource.object["spec"]["template"], &there.data["spec"]["template"]);
    if there.managed_fields().is_empty() {
        // On the local platform no server adds defaults.
        return desired != observed;
    }
    !contains(observed, desired) || drops(there, FIELD_MANAGER, &["spec", "template"], desired)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lifecycle::plan::plan;
    use crate::render::render;
    use crate::spec::ClusterSpec;
    use crate::spec::resolve::{Overrides, Source, resolve};

    fn spec(text: &str) -> ClusterSpec {
        let source = Source {
            name: "sparkha.yaml",
            text,
        };
        resolve(Some(source), &Overrides::default()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn compared(before: &str, after: &str, origin: &Origin) -> Differences {
        let (before, after) = (spec(before), spec(after));
        let (old, new) = (render(&before), render(&after));
        let there = old.objects.iter().map(|resource| {
            let mut object: DynamicObject = serde_json::from_value(resource.object.clone()).unwrap();
            if resource.kind == Kind::Secret {
                let keys = resource.object["stringData"].as_object().unwrap().keys();
                let made: serde_json::Map<_, _> = keys.map(|key| (key.clone(), json!("eA=="))).collect();
                object.data = json!({"data": made});
            }
            ((resource.kind, resource.name.clone()), object)
        });
        let live = there.collect();
        let plan = plan(&new, &live, Some(&old.inventory), None, false);
        differences(Some(&old.inventory), &new.inventory, &plan, &live, origin)
    }

    #[track_caller]
    fn assert_reported(differences: &Differences, expected: &[&str], confirmation: bool, disturbing: bool) {
        assert_eq!(differences.lines(), expected);
        assert_eq!(
            (differences.need_confirmation(), differences.are_disturbing()),
            (confirmation, disturbing)
        );
    }

    #[test]
    fn reports_everything_a_small_cluster_loses_by_becoming_the_default_one() {
        let small = "masters: {count: 1}\nhistory: {eventLogs: 's3a://b/e'}\ns3: {}\nconnect: true\n";
        let expected = [
            "masters: 1 → 3",
            "ZooKeeper: none → 3 of its own",
            "history server: removed",
            "Spark Connect server: removed",
            "Service spark-history deleted",
            "Service spark-connect deleted",
            "NetworkPolicy spark-history deleted",
            "NetworkPolicy spark-connect deleted",
            "StatefulSet spark-history deleted",
            "StatefulSet spark-connect deleted",
            "pods of spark-master restart",
            "pods of spark-worker restart",
            "changed in place: ConfigMap spark-conf, Secret spark-auth, NetworkPolicy spark-master, NetworkPolicy spark-worker",
        ];
        assert_reported(&compared(small, "", &Origin::File), &expected, true, true);
    }

    #[test]
    fn additions_need_no_confirmation() {
        let base = "masters: {count: 1}\nworkers: {count: 2}\n";
        let none = compared(base, base, &Origin::File);
        assert_reported(&none, &[], false, false);
        let more = compared(base, &base.replace("count: 2", "count: 3"), &Origin::File);
        // The default cores of an application depend on the number of workers and restart nothing.
        let conf = "changed in place: ConfigMap spark-conf";
        assert_reported(&more, &["workers: 2 → 3", conf], false, false);
        let history = format!("{base}history: {{eventLogs: 's3a://b/e'}}\ns3: {{}}\n");
        let added = compared(base, &history, &Origin::File);
        assert!(added.lines().contains(&"history server: added".to_owned()));
        assert!(!added.need_confirmation());
        let later = compared(&history, &history.replace("s3a://b/e", "s3a://b/f"), &Origin::File);
        let expected = [
            "pods of spark-history restart",
            "changed in place: ConfigMap spark-conf",
        ];
        assert_reported(&later, &expected, false, false);
    }

    #[test]
    fn deleted_and_restarted_pods_disturb_applications() {
        let base = "masters: {count: 1}\nworkers: {count: 2}\n";
        let mut fewer = compared(base, &base.replace("count: 2", "count: 1"), &Origin::File);
        let conf = "changed in place: ConfigMap spark-conf";
        assert_reported(&fewer, &["workers: 2 → 1", conf], false, true);
        fewer.disturb(&Applications::Running(vec![]));
        assert_reported(&fewer, &["workers: 2 → 1", conf], false, true);
        fewer.disturb(&Applications::Running(vec!["app-1 job".into()]));
        let expected = ["workers: 2 → 1", conf, "1 application runs: app-1 job"];
        assert_reported(&fewer, &expected, true, true);

        let larger = format!("{base}sparkConf: {{spark.worker.timeout: 30}}\n");
        let mut restarted = compared(base, &larger, &Origin::File);
        restarted.disturb(&Applications::Unknown("no master leads".into()));
        let expected = [
            "pods of spark-master restart",
            "pods of spark-worker restart",
            "changed in place: ConfigMap spark-conf",
            "applications may be running, sparkha cannot tell: no master leads",
        ];
        assert_reported(&restarted, &expected, true, true);
    }

    #[test]
    fn without_a_kept_cluster_file_every_change_needs_confirmation() {
        let base = "masters: {count: 1}\nlabels: {team: data}\n";
        assert_reported(&compared(base, base, &Origin::Inventory(None)), &[], false, false);
        let guessed = compared(base, "masters: {count: 1}\n", &Origin::Inventory(None));
        assert!(guessed.lines()[0].starts_with("its inventory has no cluster-file.yaml: "));
        assert!(guessed.need_confirmation());
    }

    #[test]
    fn a_cluster_without_stateful_sets_has_nothing_to_lose() {
        let (before, after) = (spec("masters: {count: 1}\n"), spec(""));
        let (old, new) = (render(&before), render(&after));
        let plan = plan(&new, &LiveObjects::new(), Some(&old.inventory), None, false);
        let differences = differences(
            Some(&old.inventory),
            &new.inventory,
            &plan,
            &LiveObjects::new(),
            &Origin::File,
        );
        assert_eq!(differences, Differences::default());
    }

    #[test]
    fn restarting_pods_are_reported_without_an_inventory() {
        let reported = |there: &str, after: &str| {
            let there = spec(there);
            let live: LiveObjects = render(&there)
                .objects
                .iter()
                .map(|resource| {
                    let object = serde_json::from_value(resource.object.clone()).unwrap();
                    ((resource.kind, resource.name.clone()), object)
                })
                .collect();
            let after = spec(after);
            let new = render(&after);
            let plan = plan(&new, &live, None, None, false);
            differences(None, &new.inventory, &plan, &live, &Origin::Inventory(None))
        };
        let one = "masters: {count: 1}\n";
        assert_eq!(reported(one, one), Differences::default());
        let guess =
            "its inventory has no cluster-file.yaml: without -f, settings that no flag sets return to their defaults";
        let expected = [
            guess,
            "pods of spark-master: 1 → 3",
            "pods of spark-master restart",
            "pods of spark-worker restart",
        ];
        assert_reported(&reported(one, ""), &expected, true, true);
        let many = "masters: {count: 1}\nworkers: {count: 50}\n";
        assert_reported(
            &reported(many, one),
            &[guess, "pods of spark-worker: 50 → 2"],
            true,
            true,
        );
    }

    #[test]
    fn removing_a_pod_label_restarts_the_pods() {
        let fields = json!({"f:spec": {"f:template": {"f:metadata": {"f:labels": {"f:a": {}, "f:b": {}}}}}});
        let managed = json!([{"manager": "sparkha", "operation": "Apply", "fieldsV1": fields}]);
        let template = |labels| json!({"metadata": {"labels": labels}});
        let there = json!({
            "metadata": {"name": "s", "managedFields": managed},
            "spec": {"template": template(json!({"a": "1", "b": "2"})), "replicas": 1},
        });
        let there: DynamicObject = serde_json::from_value(there).unwrap();
        let restarts = |labels| {
            let resource = Resource {
                kind: Kind::StatefulSet,
                name: "s".into(),
                object: json!({"spec": {"template": template(labels), "replicas": 2}}),
            };
            super::restarts(&resource, &there)
        };
        assert!(!restarts(json!({"a": "1", "b": "2"})));
        assert!(restarts(json!({"a": "1"})));
        assert!(restarts(json!({"a": "1", "b": "3"})));
    }
}
