//! Settings of masters and workers alike: heap, environment, placement, volumes.

use serde_json::{Map, Value, json};

use super::{ChartImport, is_set};
use crate::import::text;

/// Sources of volumes that a cluster file has, with the keys that it takes of each.
const SOURCES: [(&str, &[&str]); 6] = [
    ("hostPath", &["path", "type"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("emptyDir", &["sizeLimit", "medium"]),
    ("configMap", &["name"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
];

impl ChartImport {
    pub(super) fn pods(&mut self) {
        self.carry("master.resources", &["masters", "resources"]);
        if let Some(heap) = self.text("master.daemonMemoryLimit") {
            self.draft.master_heap("master.daemonMemoryLimit", &heap);
        }
        self.carry("worker.daemonMemoryLimit", &["workers", "daemonMemory"]);
        for (component, part) in [("master", "masters"), ("worker", "workers")] {
            let parameter = |key: &str| format!("{component}.{key}");
            for key in ["configOptions", "javaOptions"] {
                if let Some(options) = self.text(&parameter(key)) {
                    self.draft.java_options(&parameter(key), &options);
                }
            }
            self.environment(&parameter("extraEnvVars"), part);
            self.each(&parameter("podAnnotations"), &[part, "annotations"]);
            for key in ["podLabels", "extraPodLabels"] {
                self.each(&parameter(key), &[part, "labels"]);
            }
            self.each(&parameter("nodeSelector"), &[part, "nodeSelector"]);
            self.placement(component, part);
            for key in ["tolerations", "priorityClassName", "topologySpreadConstraints"] {
                self.carry(&parameter(key), &[part, key]);
            }
            self.volumes(component, part);
        }
        let parameter = "worker.terminationGracePeriodSeconds";
        if let Some(seconds) = self.text(parameter) {
            match seconds.parse::<u32>() {
                Ok(seconds) => self.draft.set(parameter, &["workers", "drainSeconds"], seconds),
                Err(_) => self.expected(parameter, "a number"),
            }
        }
        if self.take("master.terminationGracePeriodSeconds").is_some() {
            self.draft.ignored(
                "master.terminationGracePeriodSeconds",
                "a master hands over within seconds",
            );
        }
        if self.take("master.resourcesPreset").is_some() {
            self.draft
                .ignored("master.resourcesPreset", "a master's memory follows from its heap");
        }
    }

    fn environment(&mut self, parameter: &str, part: &str) {
        for variable in self.list(parameter).into_iter().flatten() {
            let Some(name) = variable["name"].as_str() else {
                self.expected(parameter, "a list of variables");
                continue;
            };
            let setting = format!("{parameter}: {}", name.escape_debug());
            let from = &variable["valueFrom"];
            if let Some(value) = text(&variable["value"]) {
                self.draft.variable(&setting, &[part, "env"], name, &value);
            } else if from["secretKeyRef"].is_object() || from["configMapKeyRef"].is_object() {
                self.draft.set(&setting, &[part, "env", name], from.clone());
            } else {
                self.draft
                    .no_counterpart(&setting, "env takes a text, secretKeyRef or configMapKeyRef");
            }
        }
    }

    fn placement(&mut self, component: &str, part: &str) {
        let parameter = |key: &str| format!("{component}.{key}");
        let (preset, node) = (parameter("podAntiAffinityPreset"), parameter("nodeAffinityPreset"));
        let affinity = parameter("affinity");
        if let Some(value) = self.take(&affinity) {
            self.draft.set(&affinity, &[part, "affinity"], value);
            for replaced in [preset, node] {
                if self.take(&replaced).is_some() {
                    self.draft.ignored(&replaced, format!("{affinity} replaces it"));
                }
            }
            return;
        }
        let level = self.text(&preset);
        match level.as_deref() {
            Some("soft") => self.draft.set(&preset, &[part, "podAntiAffinity"], "preferred"),
            Some("hard") => self.draft.set(&preset, &[part, "podAntiAffinity"], "required"),
            Some(_) => self.expected(&preset, "soft or hard"),
            None => {}
        }
        let nodes = self.object(&node).unwrap_or_default();
        let get = |key: &str| nodes.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        match (get("type"), get("key"), nodes.get("values").and_then(Value::as_array)) {
            (Some("hard"), Some(key), Some(values)) if values.len() == 1 => {
                let value = text(&values[0]).unwrap_or_default();
                self.draft.set(&node, &[part, "nodeSelector", key], value);
            }
            (Some(_), ..) => self
                .draft
                .no_counterpart(&node, "write nodeSelector, or affinity as in a pod's specification"),
            (None, ..) if nodes.values().any(is_set) => {
                self.draft.ignored(&node, format!("{node}.type is not set"));
            }
            (None, ..) => {}
        }
    }

    /// Joins volumes and claims with their mounts.
    fn volumes(&mut self, component: &str, part: &str) {
        let parameter = |key: &str| format!("{component}.{key}");
        let mounts = self.list(&parameter("extraVolumeMounts")).unwrap_or_default();
        let mut volumes = Vec::new();
        for key in ["extraVolumes", "extraVolumeClaimTemplates"] {
            for volume in self.list(&parameter(key)).unwrap_or_default() {
                let name = volume["name"].as_str().or(volume["metadata"]["name"].as_str());
                let name = name.unwrap_or_default();
                let setting = format!("{}: {}", parameter(key), name.escape_debug());
                let of_volume: Vec<_> = mounts.iter().filter(|mount| mount["name"] == name).collect();
                let source = match key {
                    "extraVolumes" => source(&volume),
                    _ => claim(&volume["spec"]),
                };
                match (source, of_volume.as_slice()) {
                    (Err(reason), _) => self.draft.no_counterpart(&setting, reason),
                    (Ok(_), []) => self.draft.ignored(&setting, "no container mounts it"),
                    (Ok(source), [mount]) => {
                        volumes.push(mounted(name, mount, source));
                        self.draft.carried_over(&setting, &[part, "volumes"]);
                    }
                    (Ok(_), _) => self
                        .draft
                        .no_counterpart(&setting, "a volume has one mount path; write one volume for each"),
                }
            }
        }
        for mount in &mounts {
            let name = mount["name"].as_str().unwrap_or_default();
            if !volumes.iter().any(|volume: &Value| volume["name"] == name) {
                let setting = format!("{}: {}", parameter("extraVolumeMounts"), name.escape_debug());
                self.draft.no_counterpart(&setting, "its volume was not carried over");
            }
        }
        if !volumes.is_empty() {
            self.draft.put(&[part, "volumes"], volumes);
        }
    }
}

fn source(volume: &Value) -> Result<Map<String, Value>, String> {
    let known = SOURCES.iter().find(|(key, _)| volume.get(*key).is_some());
    let Some((key, keys)) = known else {
        return Err(
            "a volume's source is one of hostPath, persistentVolumeClaim, emptyDir, configMap, secret, nfs".into(),
        );
    };
    let mut given = volume[*key].as_object().cloned().unwrap_or_default();
    given.retain(|_, value| is_set(value));
    match given.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(unknown) => Err(format!("{key} has no key {}", unknown.escape_debug())),
        None => Ok(Map::from_iter([((*key).to_owned(), given.into())])),
    }
}

/// A claim template's specification as a new claim.
fn claim(spec: &Value) -> Result<Map<String, Value>, String> {
    let size = &spec["resources"]["requests"]["storage"];
    if !is_set(size) {
        return Err("the claim has no size".into());
    }
    let mut claim = json!({"size": size});
    if is_set(&spec["storageClassName"]) {
        claim["storageClassName"] = spec["storageClassName"].clone();
    }
    if is_set(&spec["accessModes"][0]) {
        claim["accessMode"] = spec["accessModes"][0].clone();
    }
    Ok(Map::from_iter([("newClaim".to_owned(), claim)]))
}

fn mounted(name: &str, mount: &Value, source: Map<String, Value>) -> Value {
    let mut volume = json!({"name": name, "mountPath": mount["mountPath"]});
    for key in ["subPath", "readOnly"] {
        if is_set(&mount[key]) {
            volume[key] = mount[key].clone();
        }
    }
    if let Some(volume) = volume.as_object_mut() {
        volume.extend(source);
    }
    volume
}
