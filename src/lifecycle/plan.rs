//! Plans the writes that turn the live cluster into the desired one. Pure.

use serde_json::json;

use crate::lifecycle::spark_change::SparkChange;
use crate::model::kind::Kind;
use crate::model::managed_fields::owned;
use crate::model::subset::contains;
use crate::platform::LiveObjects;
use crate::platform::kubernetes::FIELD_MANAGER;
use crate::render::inventory::{Inventory, InventoryEntry, UpgradePhase};
use crate::render::{Rendered, Resource, auth};

/// The writes, in order.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// Objects to apply, in this order. Secrets have only their missing keys.
    pub apply: Vec<Resource>,
    /// Objects that sparkha created and that are no longer desired.
    pub prune: Vec<InventoryEntry>,
    /// The inventory after the change.
    pub inventory: Inventory,
    /// The inventory during the change: of all objects that may exist then.
    pub during: Inventory,
    /// Whether the inventory must be written.
    pub inventory_changes: bool,
    /// The change of the Spark version of masters and workers.
    pub change: Option<SparkChange>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.apply.is_empty() && self.prune.is_empty() && !self.inventory_changes
    }
}

/// Compares the desired objects with the live ones. An object is current if the inventory records the same digest and the object still has all
/// desired fields: a write would change nothing. `is_drained`: no application runs, so that a drain recorded in the inventory ends.
pub fn plan(
    desired: &Rendered,
    live: &LiveObjects,
    old: Option<&Inventory>,
    change: Option<SparkChange>,
    is_drained: bool,
) -> Plan {
    let new = &desired.inventory;
    let least = new.cluster.workers.count;
    let changed = desired
        .objects
        .iter()
        .filter(|resource| !is_current(resource, live, old, new));
    let prune = old
        .iter()
        .flat_map(|old| &old.objects)
        .filter(|entry| new.entry(entry.kind, &entry.name).is_none())
        .filter(|entry| live.contains_key(&(entry.kind, entry.name.clone())));
    let inventory = match change.is_some() || is_drained {
        true => new.clone(),
        false => new.clone().keeping_drain_of(old),
    };
    let during = match old {
        Some(old) => inventory.united_with(old),
        None => inventory.without_digests(),
    };
    Plan {
        apply: changed.map(|resource| to_apply(resource, live, least)).collect(),
        prune: prune.cloned().collect(),
        during: match &change {
            Some(change) => during.with_upgrade(Some(change.upgrade(UpgradePhase::Changing))),
            None => during,
        },
        inventory_changes: old != Some(&inventory),
        inventory,
        change,
    }
}

/// The object to write. If an autoscaler owns the replicas, applying keeps their number: a field that sparkha already
/// owns must be applied again, or it would fall back to 1. A new StatefulSet starts with `least`.
fn to_apply(resource: &Resource, live: &LiveObjects, least: u32) -> Resource {
    let there = live.get(&(resource.kind, resource.name.clone()));
    let mut resource = resource.clone();
    let object = &mut resource.object;
    match (resource.kind, there) {
        (Kind::Secret, there) => {
            let missing = auth::missing(object, there);
            if let Some(keys) = object["stringData"].as_object_mut() {
                keys.retain(|key, _| missing.contains(key));
            }
        }
        (Kind::StatefulSet, None) if object["spec"]["replicas"].is_null() => object["spec"]["replicas"] = json!(least),
        (Kind::StatefulSet, Some(there)) if object["spec"]["replicas"].is_null() => {
            let replicas = owned(there, FIELD_MANAGER)["spec"]["replicas"].take();
            if !replicas.is_null() {
                object["spec"]["replicas"] = replicas;
            }
        }
        _ => {}
    }
    resource
}

/// Secret values cannot be compared: a Secret is current if it has all keys.
fn is_current(resource: &Resource, live: &LiveObjects, old: Option<&Inventory>, new: &Inventory) -> bool {
    let object = live.get(&(resource.kind, resource.name.clone()));
    if resource.kind == Kind::Secret {
        return auth::missing(&resource.object, object).is_empty();
    }
    let digest = |inventory: &Inventory| {
        let entry = inventory.entry(resource.kind, &resource.name);
        entry
            .map(|entry| entry.digest.clone())
            .filter(|digest| !digest.is_empty())
    };
    let Some(applied) = old.and_then(digest) else {
        return false;
    };
    let Some(object) = object else {
        return false;
    };
    // List items have no apiVersion and kind.
    let mut desired = resource.object.clone();
    if let Some(fields) = desired.as_object_mut() {
        fields.retain(|field, _| field != "apiVersion" && field != "kind");
    }
    Some(applied) == digest(new) && serde_json::to_value(object).is_ok_and(|object| contains(&object, &desired))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn service(object: Value) -> Resource {
        Resource {
            kind: Kind::Service,
            name: "s".into(),
            object,
        }
    }

    #[test]
    fn an_unchanged_listed_object_needs_no_write() {
        let desired =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"type": "ClusterIP"}});
        let listed =
            json!({"metadata": {"name": "s", "uid": "1"}, "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1"}});
        let mut live = LiveObjects::new();
        live.insert((Kind::Service, "s".into()), serde_json::from_value(listed).unwrap());
        let spec = crate::spec::resolve::resolve(None, &Default::default()).unwrap();
        let desired = Rendered::of(&spec, vec![service(desired)]);
        let plan = |live: &LiveObjects, old: &Inventory| plan(&desired, live, Some(old), None, false);
        assert!(plan(&live, &desired.inventory).is_empty());
        // An object whose last write may have been interrupted is written again.
        let uncertain = desired.inventory.without_digests();
        assert_eq!(plan(&live, &uncertain).apply.len(), 1);
        // So is an object that was deleted.
        assert_eq!(plan(&LiveObjects::new(), &desired.inventory).apply.len(), 1);
    }

    #[test]
    fn autoscaled_replicas_are_kept() {
        let set = |object: Value| Resource {
            kind: Kind::StatefulSet,
            name: "s".into(),
            object,
        };
        let live = |managed: Value| {
            let object = json!({"metadata": {"name": "s", "managedFields": managed}, "spec": {"replicas": 5}});
            LiveObjects::from([((Kind::StatefulSet, "s".into()), serde_json::from_value(object).unwrap())])
        };
        let ours = json!([{"manager": "sparkha", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
        let replicas =
            |object: Value, live: &LiveObjects| to_apply(&set(object), live, 2).object["spec"]["replicas"].clone();
        assert_eq!(replicas(json!({"spec": {}}), &LiveObjects::new()), json!(2));
        assert_eq!(replicas(json!({"spec": {}}), &live(ours.clone())), json!(5));
        assert_eq!(replicas(json!({"spec": {}}), &live(json!([]))), Value::Null);
        assert_eq!(replicas(json!({"spec": {"replicas": 3}}), &live(ours)), json!(3));
    }

    #[test]
    fn fields_added_by_the_server_are_no_difference() {
        let live =
            json!({"spec": {"replicas": 2, "revisionHistoryLimit": 10, "ports": [{"port": 1, "protocol": "TCP"}]}});
        assert!(contains(
            &live,
            &json!({"spec": {"replicas": 2, "ports": [{"port": 1}]}})
        ));
        assert!(contains(&live, &json!({"spec": {"emptyDir": {}, "value": ""}})));
        assert!(!contains(&live, &json!({"spec": {"replicas": 3}})));
        assert!(!contains(&live, &json!({"spec": {"ports": []}})));
        assert!(!contains(&live, &json!({"spec": {"paused": true}})));
    }
}
