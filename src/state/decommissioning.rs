//! The workers that a scale-down removes, and their progress. A StatefulSet removes its highest ordinals, idle or not. These workers are
//! decommissioned all at once, so that no worker moves its blocks to one that is removed next. Pure.

use crate::spec::words::counted;
use crate::state::{ClusterState, WorkerState};

/// Workers to decommission.
#[derive(Debug, PartialEq)]
pub struct Decommissioning<'a> {
    workers: Vec<&'a WorkerState>,
}

/// The workers to remove from a cluster scaled to `count` workers, highest ordinal first.
pub fn decommissioning(state: &ClusterState, count: u32) -> Decommissioning<'_> {
    let mut workers: Vec<_> = state
        .workers
        .pods
        .iter()
        .filter(|worker| worker.ordinal() >= Some(count))
        .collect();
    workers.sort_by_key(|worker| std::cmp::Reverse(worker.ordinal()));
    Decommissioning { workers }
}

impl Decommissioning<'_> {
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// A description of each worker before decommissioning.
    pub fn before(&self) -> String {
        let each = self.workers.iter().map(|worker| match worker.cores_used {
            0 => format!("{} is idle", worker.pod.name),
            used => format!(
                "{} has {used} of {} in use",
                worker.pod.name,
                counted(worker.cores, "core")
            ),
        });
        each.collect::<Vec<_>>().join(", ")
    }

    /// A description of each worker during decommissioning.
    pub fn now(&self) -> String {
        let each = self.workers.iter().map(|worker| {
            let name = &worker.pod.name;
            let state = match worker.state.as_deref() {
                // The leader counts its cores until it removes the worker.
                Some("DEAD") => return format!("{name} has left"),
                Some("DECOMMISSIONED") => "is being decommissioned",
                Some("ALIVE") => "still runs",
                _ => return format!("{name} {}", worker.pod.phase),
            };
            match worker.cores_used {
                0 => format!("{name} {state}"),
                used => format!("{name} {state}, executors on {}", counted(used, "core")),
            }
        });
        each.collect::<Vec<_>>().join("; ")
    }

    /// A note if idle workers remain while busy ones are removed.
    pub fn surprise(&self, state: &ClusterState) -> Option<String> {
        let is_busy = |worker: &&WorkerState| worker.cores_used > 0;
        let stays = |worker: &&WorkerState| {
            !self
                .workers
                .iter()
                .any(|decommissioning| decommissioning.pod.name == worker.pod.name)
        };
        let idle: Vec<_> = state
            .workers
            .pods
            .iter()
            .filter(|worker| stays(worker) && !is_busy(worker))
            .map(|worker| worker.pod.name.as_str())
            .collect();
        let busy = self.workers.iter().copied().any(|worker| is_busy(&worker));
        (busy && !idle.is_empty()).then(|| {
            format!(
                "{} are idle, but a StatefulSet removes its highest ordinals first; executors can move there",
                idle.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::inventory::Inventory;
    use crate::state::{Facts, PodState, cluster_state};

    fn state(cores_used: &[u32]) -> ClusterState {
        let spec = crate::spec::resolve::resolve(None, &Default::default()).unwrap();
        let mut state = cluster_state("n", &Inventory::of(&spec, &[]), &Facts::default());
        let workers = cores_used.iter().enumerate().map(|(ordinal, &cores_used)| WorkerState {
            pod: PodState {
                name: format!("spark-worker-{ordinal}"),
                phase: "Running".into(),
                restarts: 0,
                node: None,
            },
            state: Some("ALIVE".into()),
            cores: 2,
            cores_used,
            memory_mib: 0,
            memory_used_mib: 0,
            web_ui: None,
        });
        state.workers.pods = workers.collect();
        state
    }

    #[test]
    fn the_highest_ordinals_are_removed_and_idle_lower_ones_are_noted() {
        let mut state = state(&[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 2]);
        let some = decommissioning(&state, 9);
        assert_eq!(
            some.before(),
            "spark-worker-10 has 2 of 2 cores in use, spark-worker-9 is idle"
        );
        assert_eq!(
            some.now(),
            "spark-worker-10 still runs, executors on 2 cores; spark-worker-9 still runs"
        );
        assert!(
            some.surprise(&state)
                .is_some_and(|words| words.starts_with("spark-worker-0, spark-worker-2, spark-worker-4"))
        );
        assert!(decommissioning(&state, 11).is_empty());
        assert_eq!(decommissioning(&state, 0).surprise(&state), None);
        // A removed worker is not shown as DEAD.
        state.workers.pods[10].state = Some("DEAD".into());
        state.workers.pods[9].state = Some("DECOMMISSIONED".into());
        state.workers.pods[9].cores_used = 1;
        assert_eq!(
            decommissioning(&state, 9).now(),
            "spark-worker-10 has left; spark-worker-9 is being decommissioned, executors on 1 core"
        );
        state.workers.expected = 9;
        let shown = |ordinal: usize| state.workers.shown_state(&state.workers.pods[ordinal]);
        assert_eq!([shown(8), shown(9), shown(10)], ["ALIVE", "DECOMMISSIONED", "LEFT"]);
        state.workers.registered = 10;
        assert_eq!(state.workers.registration(), "9 registered, 1 more is leaving");
        state.workers.registered = 8;
        assert_eq!(state.workers.registration(), "8 of 9 registered");
    }

    #[test]
    fn removing_idle_workers_needs_no_note() {
        let state = state(&[1, 0, 0]);
        assert_eq!(decommissioning(&state, 1).surprise(&state), None);
    }
}
