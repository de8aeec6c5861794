//! Checks that the driver's pod template in a cluster's ConfigMap matches its cluster file. `submit` creates this pod with the permissions of
//! its user. Otherwise a user who may only write ConfigMaps could get pods with access to the node, other Secrets or the API server. Pure.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value};

use super::driver;
use super::inventory::Inventory;
use crate::spec::resolve::{Overrides, Source, resolve};

type JsonObject = Map<String, Value>;

/// Fields of a pod that are compared separately, or only affect scheduling.
const NOT_COMPARED: [&str; 8] = [
    "affinity",
    "containers",
    "nodeSelector",
    "priorityClassName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
];
/// Fields of a container without effect outside of it. Its environment is compared separately.
const HARMLESS: [&str; 5] = ["args", "env", "ports", "resources", "volumeMounts"];

/// Differences between a template and this cluster's drivers. If the inventory has no cluster file, Secrets and volumes are not
/// compared.
pub fn beyond(template: &Pod, inventory: &Inventory) -> Vec<String> {
    let flags = Overrides {
        name: Some(inventory.cluster.name.to_string()),
        alias: inventory.cluster.alias.clone(),
        image: Some(inventory.cluster.image.clone()),
        ..Overrides::default()
    };
    let kept = inventory.cluster_file.as_deref().map(|text| Source { name: "", text });
    let kept = kept.and_then(|kept| resolve(Some(kept), &flags).ok());
    let is_known = kept.is_some();
    let own = kept.or_else(|| resolve(None, &flags).ok());
    let own = own.and_then(|spec| serde_json::from_str(&driver::template(&spec)).ok());
    match own {
        Some(own) => differences(template, &own, is_known),
        None => vec!["everything".into()],
    }
}

/// `is_known`: whether the cluster's own Secrets and volumes are known.
fn differences(found: &Pod, own: &Pod, is_known: bool) -> Vec<String> {
    let (found, own) = (pod_spec(found), pod_spec(own));
    let unknown: &[&str] = if is_known { &[] } else { &["imagePullSecrets"] };
    let mut all = unlike("", &found, &own, &[&NOT_COMPARED, unknown].concat());
    for container in things(&found, "containers") {
        let path = format!("containers[{}]", name(container));
        let Some(own) = things(&own, "containers").find(|own| name(own) == name(container)) else {
            all.push(path);
            continue;
        };
        let path = format!("{path}.");
        all.extend(unlike(&path, container, own, &HARMLESS));
        if is_known {
            let is_read = |variable: &JsonObject| variable.contains_key("valueFrom");
            all.extend(unlisted(&path, "env", (container, own), is_read));
        }
    }
    if is_known {
        // A volume without anyone's data is harmless.
        let holds = |volume: &JsonObject| !volume.keys().all(|key| key == "name" || key == "emptyDir");
        all.extend(unlisted("", "volumes", (&found, &own), holds));
    }
    all
}

fn pod_spec(pod: &Pod) -> JsonObject {
    let spec = serde_json::to_value(&pod.spec);
    spec.ok().and_then(|spec| spec.as_object().cloned()).unwrap_or_default()
}

/// The keys with different values in two objects, except for ignored ones.
fn unlike(path: &str, found: &JsonObject, own: &JsonObject, but: &[&str]) -> Vec<String> {
    let mut keys: Vec<_> = found.keys().chain(own.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| !but.contains(&key.as_str()) && found.get(*key) != own.get(*key))
        .map(|key| format!("{path}{key}"))
        .collect()
}

/// The relevant items of a list that the cluster's own list lacks.
fn unlisted(
    path: &str,
    list: &str,
    (found, own): (&JsonObject, &JsonObject),
    counts: impl Fn(&JsonObject) -> bool,
) -> Vec<String> {
    things(found, list)
        .filter(|thing| counts(thing) && !things(own, list).any(|own| own == *thing))
        .map(|thing| format!("{path}{list}[{}]", name(thing)))
        .collect()
}

fn things<'a>(object: &'a JsonObject, list: &str) -> impl Iterator<Item = &'a JsonObject> {
    let list = object.get(list).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_object)
}

fn name(thing: &JsonObject) -> &str {
    thing.get("name").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FILE: &str = "s3: {endpoint: 'http://minio:9000', secret: {name: keys}}\n\
        workers: {nodeSelector: {disk: ssd}, volumes: [{name: in, mountPath: /in, persistentVolumeClaim: {claimName: in}}]}";

    fn own(text: &str) -> Value {
        let spec = resolve(Some(Source { name: "f", text }), &Overrides::default()).unwrap();
        serde_json::from_str(&driver::template(&spec)).unwrap()
    }

    fn beyond(pod: &Value) -> Vec<String> {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        let own: Pod = serde_json::from_value(own(FILE)).unwrap();
        differences(&pod, &own, true)
    }

    #[test]
    fn scheduling_does_not_make_a_driver_foreign() {
        let mut pod = own(FILE);
        assert_eq!(beyond(&pod), [""; 0]);
        let spec = &mut pod["spec"];
        spec["nodeSelector"] = json!({"disk": "other"});
        spec["volumes"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "more", "emptyDir": {}}));
        let env = spec["containers"][0]["env"].as_array_mut().unwrap();
        env.push(json!({"name": "A", "value": "b"}));
        assert_eq!(beyond(&pod), [""; 0]);
    }

    #[test]
    fn additional_access_is_reported() {
        let secret = json!({"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}});
        for (pointer, value, told) in [
            ("/spec/serviceAccountName", json!("admin"), "serviceAccountName"),
            (
                "/spec/automountServiceAccountToken",
                Value::Null,
                "automountServiceAccountToken",
            ),
            ("/spec/hostNetwork", json!(true), "hostNetwork"),
            ("/spec/hostPID", json!(true), "hostPID"),
            ("/spec/shareProcessNamespace", json!(true), "shareProcessNamespace"),
            ("/spec/securityContext/runAsUser", json!(0), "securityContext"),
            ("/spec/initContainers", json!([{"name": "driver"}]), "initContainers"),
            ("/spec/containers/0/image", json!("evil"), "containers[driver].image"),
            (
                "/spec/containers/0/command",
                json!(["sh"]),
                "containers[driver].command",
            ),
            (
                "/spec/containers/0/lifecycle",
                json!({}),
                "containers[driver].lifecycle",
            ),
            (
                "/spec/containers/0/envFrom",
                json!([{"secretRef": {"name": "x"}}]),
                "containers[driver].envFrom",
            ),
            (
                "/spec/containers/0/securityContext/privileged",
                json!(true),
                "containers[driver].securityContext",
            ),
            ("/spec/containers/1", json!({"name": "more"}), "containers[more]"),
            (
                "/spec/containers/0/env/0",
                secret,
                "containers[driver].env[AWS_ACCESS_KEY_ID]",
            ),
            (
                "/spec/volumes/0",
                json!({"name": "v", "hostPath": {"path": "/"}}),
                "volumes[v]",
            ),
            (
                "/spec/volumes/0",
                json!({"name": "v", "secret": {"secretName": "x"}}),
                "volumes[v]",
            ),
            (
                "/spec/volumes/0",
                json!({"name": "auth", "secret": {"secretName": "x"}}),
                "volumes[auth]",
            ),
            (
                "/spec/volumes/0",
                json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
                "volumes[v]",
            ),
        ] {
            let mut pod = own(FILE);
            put(&mut pod, pointer, value);
            assert_eq!(beyond(&pod), [told], "{pointer}");
        }
    }

    /// Sets a value at a JSON pointer: appends to a list, or replaces the existing value.
    fn put(pod: &mut Value, pointer: &str, value: Value) {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match pod.pointer_mut(parent).unwrap() {
            Value::Array(list) => match list.get_mut(key.parse::<usize>().unwrap()) {
                Some(_) if value["name"].is_string() => {
                    let same = list.iter_mut().find(|thing| thing["name"] == value["name"]);
                    match same {
                        Some(same) => *same = value,
                        None => list.push(value),
                    }
                }
                _ => list.push(value),
            },
            parent => parent[key] = value,
        }
    }
}
