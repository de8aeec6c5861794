//! Takes over the clusters of released versions: what `create` with their own cluster file would restart. `tests/releases` has a folder for each
//! release, with the objects that it rendered and, in `restarts.yaml`, the StatefulSets whose pods the next create restarts, and why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use crate::lifecycle::differences::restarts;
use crate::lifecycle::plan::{Plan, plan};
use crate::lifecycle::spark_change::SparkChange;
use crate::model::kind::Kind;
use crate::platform::LiveObjects;
use crate::render::inventory::Inventory;
use crate::render::{Resource, render};
use crate::spec::resolve::{Source, resolve};

/// Fields of a StatefulSet that can change. The API server refuses a change of any other.
const MUTABLE: [&str; 6] = [
    "minReadySeconds",
    "ordinals",
    "persistentVolumeClaimRetentionPolicy",
    "replicas",
    "template",
    "updateStrategy",
];

fn releases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/releases");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

/// The objects of a release as they are on a cluster, and its inventory.
fn live(release: &Path) -> (LiveObjects, Inventory) {
    let text = std::fs::read_to_string(release.join("rendered.yaml")).unwrap();
    let mut live = LiveObjects::new();
    let mut inventory = None;
    for text in text.split("\n---\n") {
        let mut object: Value = serde_saphyr::from_str(text).unwrap();
        // A user fills in the secrets, and the API server stores them in another form.
        let secrets = object["stringData"].as_object().cloned().unwrap_or_default();
        for key in secrets.keys() {
            object["data"][key] = BASE64.encode(b"0123456789abcdef").into();
        }
        let kind: Kind = serde_json::from_value(object["kind"].clone()).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if name.ends_with("-sparkha") {
            let config_map: ConfigMap = serde_json::from_value(object).unwrap();
            inventory = Some(Inventory::read(&config_map).unwrap().writable().unwrap());
        } else {
            live.insert((kind, name), serde_json::from_value(object).unwrap());
        }
    }
    (live, inventory.unwrap())
}

/// What `create` with the release's own cluster file would do.
fn takeover(live: &LiveObjects, old: &Inventory) -> Plan {
    let text = old.cluster_file.as_deref().unwrap();
    let source = Source {
        name: "cluster-file.yaml",
        text,
    };
    let desired = render(&resolve(Some(source), &Default::default()).unwrap_or_else(|problems| panic!("{problems}")));
    let change = SparkChange::between(live, &desired.objects);
    assert_eq!(change, None, "another version of Spark ends running applications");
    plan(&desired, live, Some(old), None, false)
}

#[test]
fn clusters_of_each_release_are_taken_over_and_only_listed_pods_restart() {
    let releases = releases();
    assert!(releases.len() >= 2, "{releases:?}");
    for release in releases {
        let (live, old) = live(&release);
        let plan = takeover(&live, &old);
        let there = |resource: &Resource| live.get(&(resource.kind, resource.name.clone()));
        let restarted = plan
            .apply
            .iter()
            .filter(|resource| there(resource).is_some_and(|there| restarts(resource, there)));
        let mut restarted: Vec<_> = restarted.map(|resource| resource.name.clone()).collect();
        restarted.sort();
        let listed = std::fs::read_to_string(release.join("restarts.yaml")).unwrap_or_else(|_| "{}".into());
        let listed: BTreeMap<String, String> = serde_saphyr::from_str(&listed).unwrap();
        assert!(
            listed.values().all(|reason| reason.len() > 20),
            "each restart has a reason: {listed:?}"
        );
        let listed: Vec<_> = listed.into_keys().collect();
        assert_eq!(restarted, listed, "{}: these StatefulSets restart", release.display());
        for resource in plan.apply.iter().filter(|resource| resource.kind == Kind::StatefulSet) {
            let Some(there) = there(resource) else { continue };
            assert_eq!(
                immutable(&resource.object["spec"]),
                immutable(&there.data["spec"]),
                "{}: the API server would refuse the change of {}",
                release.display(),
                resource.name
            );
        }
        let pruned = plan
            .prune
            .iter()
            .filter(|entry| entry.kind == Kind::StatefulSet)
            .count();
        assert_eq!(pruned, 0, "{}: {:?}", release.display(), plan.prune);
    }
}

fn immutable(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let fields = spec.as_object_mut().unwrap();
    fields.retain(|field, _| !MUTABLE.contains(&field.as_str()));
    spec
}

/// The folder of the current version is what it renders: `make manifests` writes it, a test of `render` compares it.
#[test]
fn create_changes_nothing_of_a_cluster_of_this_version() {
    let release = releases()
        .into_iter()
        .find(|release| release.ends_with(env!("CARGO_PKG_VERSION")));
    let (live, old) = live(&release.unwrap());
    let plan = takeover(&live, &old);
    assert!(plan.is_empty(), "{plan:#?}");
}
