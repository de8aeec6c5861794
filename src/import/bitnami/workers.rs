//! The number and size of workers.

use serde_json::{Value, json};

use super::{ChartImport, is_set};
use crate::import::text;
use crate::spec::quantity::{Cpu, Memory};

/// Limits of the chart's presets that are large enough for a worker: milli CPU and MiB. Smaller ones are not taken for a decision.
const PRESETS: [(&str, u32, u64); 3] = [("large", 1500, 3072), ("xlarge", 3000, 6144), ("2xlarge", 6000, 12288)];

/// A worker offers no more than its pod has.
const BY_POD: &str = "a worker offers what its pod's limits leave";

impl ChartImport {
    pub(super) fn worker_size(&mut self) {
        self.worker_count();
        let limits = self.values.pointer_mut("/worker/resources/limits").map(Value::take);
        let limits = limits.unwrap_or_default();
        let limit = |key: &str| text(&limits[key]).filter(|value| !value.is_empty());
        let (cpu, memory, disk) = (limit("cpu"), limit("memory"), limit("ephemeral-storage"));
        let (cores_given, memory_given) = (cpu.is_some(), memory.is_some());
        if let Some(cpu) = cpu {
            self.cores("worker.resources.limits.cpu", &cpu);
        }
        if let Some(memory) = memory {
            self.draft
                .set("worker.resources.limits.memory", &["workers", "memory"], memory);
        }
        if let Some(disk) = disk {
            let path = ["workers", "resources", "limits", "ephemeral-storage"];
            self.draft.set("worker.resources.limits.ephemeral-storage", &path, disk);
        }
        let requests = self.values.pointer_mut("/worker/resources/requests").map(Value::take);
        for (key, value) in requests.as_ref().and_then(Value::as_object).into_iter().flatten() {
            if is_set(value) {
                let path = ["workers", "resources", "requests", key];
                self.draft
                    .set(&format!("worker.resources.requests.{key}"), &path, value.clone());
            }
        }
        self.take("worker.resources");
        let preset = self.text("worker.resourcesPreset");
        if let Some(cores) = self.text("worker.coreLimit") {
            match cores_given {
                true => self.draft.ignored("worker.coreLimit", BY_POD),
                false => self.cores("worker.coreLimit", &cores),
            }
        } else if let Some(preset) = preset.as_deref().filter(|_| !cores_given && !memory_given) {
            self.preset(preset);
        }
        if let Some(memory) = self.text("worker.memoryLimit") {
            match memory_given {
                true => self.draft.ignored("worker.memoryLimit", BY_POD),
                false => self.draft.offer("worker.memoryLimit", &memory),
            }
        }
    }

    fn worker_count(&mut self) {
        let autoscaling = self.object("worker.autoscaling").unwrap_or_default();
        let count = self.take("worker.replicaCount");
        if autoscaling.get("enabled") != Some(&json!(true)) {
            if let Some(count) = count {
                self.draft.set("worker.replicaCount", &["workers", "count"], count);
            }
            for name in autoscaling
                .iter()
                .filter(|(_, value)| is_set(value))
                .map(|(name, _)| name)
            {
                let setting = format!("worker.autoscaling.{name}");
                self.draft.ignored(&setting, "worker.autoscaling.enabled is not true");
            }
            return;
        }
        let given = |names: [&'static str; 2]| {
            let given = names
                .into_iter()
                .find(|name| autoscaling.get(*name).is_some_and(is_set));
            let number = given.and_then(|name| text(&autoscaling[name])?.parse::<u32>().ok());
            number.map(|number| (given.unwrap_or_default(), number))
        };
        let setting = |name: &str| format!("worker.autoscaling.{name}");
        // The chart's own defaults.
        let (mut min, mut max, mut cpu) = (2, 5, 50);
        if let Some(count) = count.as_ref().and_then(text).and_then(|count| count.parse().ok()) {
            min = count;
            self.draft
                .carried_over("worker.replicaCount", &["workers", "autoscale", "min"]);
        }
        for (names, place, key) in [
            (["minReplicas", "minReplicas"], &mut min, "min"),
            (["maxReplicas", "replicasMax"], &mut max, "max"),
            (["targetCPU", "CpuTargetPercentage"], &mut cpu, "cpuPercent"),
        ] {
            if let Some((name, number)) = given(names) {
                *place = number;
                self.draft.carried_over(&setting(name), &["workers", "autoscale", key]);
            }
        }
        if autoscaling.get("targetMemory").is_some_and(is_set) {
            self.draft.no_counterpart(
                &setting("targetMemory"),
                "the memory of a JVM does not follow its load; workers scale by CPU",
            );
        }
        let autoscale = json!({"min": min, "max": max, "cpuPercent": cpu});
        self.draft
            .set(&setting("enabled"), &["workers", "autoscale"], autoscale);
    }

    /// Whole cores, rounded up.
    fn cores(&mut self, setting: &str, cpu: &str) {
        match Cpu::parse(cpu) {
            Ok(cpu) => {
                let cores = cpu.millis().div_ceil(1000);
                self.draft.set(setting, &["workers", "cores"], cores);
            }
            Err(error) => self.draft.no_counterpart(setting, error.to_string()),
        }
    }

    fn preset(&mut self, preset: &str) {
        let setting = "worker.resourcesPreset";
        match PRESETS.iter().find(|(name, ..)| *name == preset) {
            Some((_, cpu, memory)) => {
                self.draft.put(&["workers", "cores"], cpu.div_ceil(1000));
                let memory = Memory::from_mib(*memory).to_string();
                self.draft.set(setting, &["workers", "memory"], memory);
            }
            None => self.draft.ignored(
                setting,
                "it is less than a worker needs; workers.cores and workers.memory have defaults",
            ),
        }
    }
}
