//! What has to be written so that the cluster in Kubernetes becomes the one that is wanted. Pure.

use std::collections::HashMap;

use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::model::kind::Kind;
use crate::model::managed_fields::owned;
use crate::model::subset::contains;
use crate::platform::kubernetes::FIELD_MANAGER;
use crate::render::inventory::{Inventory, InventoryEntry};
use crate::render::{Resource, auth};

/// Objects of ours that are there, by kind and name.
pub type Live = HashMap<(Kind, String), DynamicObject>;

/// What to write, in order.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// To be applied, in this order; without the inventory, which frames everything.
    pub apply: Vec<Resource>,
    /// No longer wanted, and made by us.
    pub prune: Vec<InventoryEntry>,
    /// Whether the inventory itself has to be written.
    pub inventory_changes: bool,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.apply.is_empty() && self.prune.is_empty() && !self.inventory_changes
    }
}

/// Compares what is wanted with what is there. An object is left alone when the inventory says that it was applied exactly so
/// and it still has every field of it: then a write could change nothing.
pub fn plan(wanted: &[Resource], live: &Live, old: Option<&Inventory>, new: &Inventory) -> Plan {
    let inventory_name = new.objects.first().map(|entry| entry.name.as_str());
    let apply = wanted
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

/// A resource as it is to be applied. Where its number of pods is an autoscaler's, applying leaves it as it is: a field that we own already
/// must be applied again, or it would fall back to 1; and what is new begins with the least.
pub fn to_apply(resource: &Resource, live: &Live, least: u32) -> Value {
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

/// What is secret cannot be compared: a Secret is current as soon as all of it was made.
fn is_current(resource: &Resource, live: &Live, old: Option<&Inventory>, new: &Inventory) -> bool {
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
    // Items of a list do not say their kind: it is the list's.
    let mut wanted = resource.object.clone();
    if let Some(fields) = wanted.as_object_mut() {
        fields.retain(|field, _| field != "apiVersion" && field != "kind");
    }
    Some(applied) == digest(new) && serde_json::to_value(object).is_ok_and(|object| contains(&object, &wanted))
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
    fn an_object_as_a_list_returns_it_needs_no_write() {
        let wanted =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"type": "ClusterIP"}});
        let listed =
            json!({"metadata": {"name": "s", "uid": "1"}, "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1"}});
        let mut live = Live::new();
        live.insert((Kind::Service, "s".into()), serde_json::from_value(listed).unwrap());
        let spec = crate::spec::resolve::resolve(None, &Default::default()).unwrap();
        let inventory = Inventory::of(&spec, &[service(wanted.clone())]);
        assert!(plan(&[service(wanted.clone())], &live, Some(&inventory), &inventory).is_empty());
        // One whose last write may have been cut off is written again.
        let uncertain = inventory.without_digests();
        assert_eq!(
            plan(&[service(wanted.clone())], &live, Some(&uncertain), &inventory)
                .apply
                .len(),
            1
        );
        // One that somebody removed, too.
        assert_eq!(
            plan(&[service(wanted)], &Live::new(), Some(&inventory), &inventory)
                .apply
                .len(),
            1
        );
    }

    #[test]
    fn the_number_of_pods_is_left_to_an_autoscaler() {
        let set = |object: Value| Resource {
            kind: Kind::StatefulSet,
            name: "s".into(),
            object,
        };
        let live = |managed: Value| {
            let object = json!({"metadata": {"name": "s", "managedFields": managed}, "spec": {"replicas": 5}});
            Live::from([((Kind::StatefulSet, "s".into()), serde_json::from_value(object).unwrap())])
        };
        let ours = json!([{"manager": "sparkha", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
        let replicas = |object: Value, live: &Live| to_apply(&set(object), live, 2)["spec"]["replicas"].clone();
        assert_eq!(replicas(json!({"spec": {}}), &Live::new()), json!(2));
        assert_eq!(replicas(json!({"spec": {}}), &live(ours.clone())), json!(5));
        assert_eq!(replicas(json!({"spec": {}}), &live(json!([]))), Value::Null);
        assert_eq!(replicas(json!({"spec": {"replicas": 3}}), &live(ours)), json!(3));
    }

    #[test]
    fn what_the_server_adds_is_no_difference() {
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
