//! Plans the writes that turn the live cluster into the desired one. Pure.

use std::collections::HashMap;

use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::model::kind::Kind;
use crate::model::managed_fields::owned;
use crate::model::subset::contains;
use crate::platform::kubernetes::FIELD_MANAGER;
use crate::render::inventory::{Inventory, InventoryEntry};
use crate::render::{Resource, auth};

/// Live objects of the cluster, by kind and name.
pub type LiveObjects = HashMap<(Kind, String), DynamicObject>;

/// The writes, in order.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Resources to apply, in this order; without the inventory, which is written first and last.
    pub apply: Vec<Resource>,
    /// Objects that sparkha created and that are no longer desired.
    pub prune: Vec<InventoryEntry>,
    /// Whether the inventory must be written.
    pub inventory_changes: bool,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.apply.is_empty() && self.prune.is_empty() && !self.inventory_changes
    }
}

/// Compares the desired resources with the live objects. An object is current if the inventory records the same digest
/// and the object still has all desired fields: a write would change nothing.
pub fn plan(desired: &[Resource], live: &LiveObjects, old: Option<&Inventory>, new: &Inventory) -> Plan {
    let inventory_name = new.objects.first().map(|entry| entry.name.as_str());
    let apply = desired
        .iter()
        .filter(|resource| Some(resource.name.as_str()) != inventory_name || resource.kind != Kind::ConfigMap)
        .filter(|resource| !is_current(resource, live, old, new))
        .cloned()
        .collect();
    let prune = old
        .iter()
        .flat_map(|old| &old.objects)
        .filter(|entry| new.entry(entry.kind, &entry.name).is_none())
        .filter(|entry| live.contains_key(&(entry.kind, entry.name.clone())))
        .cloned()
        .collect();
    Plan {
        apply,
        prune,
        inventory_changes: old != Some(new),
    }
}

/// The resource to apply. If an autoscaler owns the replicas, applying keeps their number: a field that sparkha already
/// owns must be applied again, or it would fall back to 1. A new StatefulSet starts with `least`.
pub fn to_apply(resource: &Resource, live: &LiveObjects, least: u32) -> Value {
    let mut object = resource.object.clone();
    if resource.kind != Kind::StatefulSet || !object["spec"]["replicas"].is_null() {
        return object;
    }
    match live.get(&(resource.kind, resource.name.clone())) {
        None => object["spec"]["replicas"] = json!(least),
        Some(there) => {
            let replicas = owned(there, FIELD_MANAGER)["spec"]["replicas"].take();
            if !replicas.is_null() {
                object["spec"]["replicas"] = replicas;
            }
        }
    }
    object
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
        let inventory = Inventory::of(&spec, &[service(desired.clone())]);
        assert!(plan(&[service(desired.clone())], &live, Some(&inventory), &inventory).is_empty());
        // An object whose last write may have been interrupted is written again.
        let uncertain = inventory.without_digests();
        assert_eq!(
            plan(&[service(desired.clone())], &live, Some(&uncertain), &inventory)
                .apply
                .len(),
            1
        );
        // So is an object that was deleted.
        assert_eq!(
            plan(&[service(desired)], &LiveObjects::new(), Some(&inventory), &inventory)
                .apply
                .len(),
            1
        );
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
        let replicas = |object: Value, live: &LiveObjects| to_apply(&set(object), live, 2)["spec"]["replicas"].clone();
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
        assert!(contains(&live, &json!({"spec": {"emptyDir": {}}})));
        assert!(!contains(&live, &json!({"spec": {"replicas": 3}})));
        assert!(!contains(&live, &json!({"spec": {"ports": []}})));
        assert!(!contains(&live, &json!({"spec": {"paused": true}})));
    }
}
