//! Reads the fields that a field manager has applied to an object. To change one field, sparkha applies them again with this change:
//! server-side apply removes omitted fields, and a patch of another kind would create a second owner.

use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

/// The fields of `object` that `manager` has applied, with the object's name.
pub fn owned(object: &DynamicObject, manager: &str) -> Value {
    let whole = serde_json::to_value(object).unwrap_or_default();
    let mut owned = applied_fields(object, manager).map_or_else(|| json!({}), |fields| pick(&whole, fields));
    if let Some(types) = &object.types {
        owned["apiVersion"] = json!(types.api_version);
        owned["kind"] = json!(types.kind);
    }
    owned["metadata"]["name"] = json!(object.name_any());
    owned
}

fn applied_fields<'a>(object: &'a DynamicObject, manager: &str) -> Option<&'a Value> {
    let mut applied = object
        .managed_fields()
        .iter()
        .filter(|entry| entry.manager.as_deref() == Some(manager) && entry.operation.as_deref() == Some("Apply"));
    applied.find_map(|entry| Some(&entry.fields_v1.as_ref()?.0))
}

/// The part of a value in a field set: `f:` is a key of a map, `k:` an item of a list by its keys, `v:` an item by its value.
fn pick(value: &Value, fields: &Value) -> Value {
    let names = fields
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != ".");
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return value.clone();
    }
    match value {
        Value::Object(map) => {
            let picked = names.into_iter().filter_map(|(name, below)| {
                let key = name.strip_prefix("f:")?;
                Some((key.to_owned(), pick(map.get(key)?, below)))
            });
            Value::Object(picked.collect::<Map<_, _>>())
        }
        // In the order of the list.
        Value::Array(items) => {
            let picked = items.iter().filter_map(|item| {
                let (_, below) = names.iter().find(|(name, _)| is_named(item, name))?;
                Some(pick(item, below))
            });
            picked.collect()
        }
        other => other.clone(),
    }
}

/// Whether `desired`, the value at `path`, lacks fields that `manager` has applied to `object` below this path: applying it would
/// remove them.
pub fn drops(object: &DynamicObject, manager: &str, path: &[&str], desired: &Value) -> bool {
    let below = applied_fields(object, manager).and_then(|fields| {
        path.iter()
            .try_fold(fields, |fields, key| fields.get(format!("f:{key}")))
    });
    below.is_some_and(|fields| lacks(desired, fields))
}

fn lacks(value: &Value, fields: &Value) -> bool {
    let mut names = fields.as_object().into_iter().flatten();
    names.any(|(name, below)| match (name.strip_prefix("f:"), value) {
        (Some(key), Value::Object(map)) => map.get(key).is_none_or(|value| lacks(value, below)),
        (None, Value::Array(items)) => items.iter().any(|item| is_named(item, name) && lacks(item, below)),
        _ => false,
    })
}

fn is_named(item: &Value, name: &str) -> bool {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    match (name.strip_prefix("k:"), name.strip_prefix("v:")) {
        (Some(keys), _) => parsed(keys)
            .as_object()
            .is_some_and(|keys| keys.iter().all(|(key, value)| item.get(key) == Some(value))),
        (_, Some(value)) => parsed(value) == *item,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_applied_fields_are_returned() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {
                "name": "s", "uid": "u", "labels": {"a": "1", "b": "2"}, "finalizers": ["x", "y"],
                "managedFields": [
                    {"manager": "sparkha", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}},
                    {"manager": "sparkha", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"y\"": {}}},
                        "f:spec": {
                            "f:replicas": {},
                            "f:gone": {},
                            "f:template": {"f:containers": {
                                "k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:args": {}, "f:ports": {
                                    "k:{\"containerPort\":2,\"protocol\":\"TCP\"}": {
                                        ".": {}, "f:containerPort": {}, "f:protocol": {},
                                    },
                                }},
                            }},
                        },
                    }},
                ],
            },
            "spec": {
                "replicas": 3, "paused": true, "template": {"containers": [
                    {"name": "other"},
                    {"name": "c", "args": ["x"], "image": "i", "ports": [
                        {"containerPort": 1, "protocol": "TCP"}, {"containerPort": 2, "protocol": "TCP", "name": "n"},
                    ]},
                ]},
            },
        }))
        .unwrap();
        assert_eq!(
            owned(&object, "sparkha"),
            json!({
                "apiVersion": "apps/v1", "kind": "StatefulSet",
                "metadata": {"name": "s", "labels": {"a": "1"}, "finalizers": ["y"]},
                "spec": {"replicas": 3, "template": {"containers": [
                    {"name": "c", "args": ["x"], "ports": [{"containerPort": 2, "protocol": "TCP"}]},
                ]}},
            })
        );
        let template = |desired| drops(&object, "sparkha", &["spec", "template"], &desired);
        let ports = json!([{"containerPort": 2, "protocol": "TCP"}]);
        assert!(!template(
            json!({"containers": [{"name": "c", "args": ["y"], "ports": ports}]})
        ));
        assert!(template(json!({"containers": [{"name": "c", "ports": ports}]})));
        assert!(template(json!({})));
        assert!(!drops(&object, "kubectl", &["spec", "template"], &json!({})));
        assert_eq!(
            owned(&object, "kubectl"),
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}})
        );
    }
}
