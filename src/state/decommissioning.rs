//! Which workers go when there are to be fewer, and what they still do. A StatefulSet gives up its highest numbers, whoever idles: so these
//! are told, and they all leave at once, that none moves its blocks to one that goes next. Pure.

use crate::spec::words::counted;
use crate::state::{ClusterState, WorkerState};

/// Workers that are to go.
#[derive(Debug, PartialEq)]
pub struct Leaving<'a> {
    workers: Vec<&'a WorkerState>,
}

/// Of a cluster that is to have `count` workers, those that are too many, the first to go first.
pub fn leaving(state: &ClusterState, count: u32) -> Leaving<'_> {
    let mut workers: Vec<_> = state
        .workers
        .pods
        .iter()
        .filter(|worker| worker.ordinal() >= Some(count))
        .collect();
    workers.sort_by_key(|worker| std::cmp::Reverse(worker.ordinal()));
    Leaving { workers }
}

impl Leaving<'_> {
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// A word for each: what it does before it goes.
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

    /// A word for each: what is left of it.
    pub fn now(&self) -> String {
        let each = self.workers.iter().map(|worker| {
            let name = &worker.pod.name;
            let state = match worker.state.as_deref() {
                // What it ran is counted until it is forgotten.
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

    /// What somebody may wonder about: workers that idle and stay, while busy ones go.
    pub fn surprise(&self, state: &ClusterState) -> Option<String> {
        let is_busy = |worker: &&WorkerState| worker.cores_used > 0;
        let stays = |worker: &&WorkerState| !self.workers.iter().any(|leaving| leaving.pod.name == worker.pod.name);
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
                "{} would be idle, but a StatefulSet removes its highest numbers first; executors can move there",
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
    fn the_highest_go_whoever_idles_and_that_is_said() {
        let mut state = state(&[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 2]);
        let some = leaving(&state, 9);
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
        assert!(leaving(&state, 11).is_empty());
        assert_eq!(leaving(&state, 0).surprise(&state), None);
        // One that has left is not called DEAD.
        state.workers.pods[10].state = Some("DEAD".into());
        state.workers.pods[9].state = Some("DECOMMISSIONED".into());
        state.workers.pods[9].cores_used = 1;
        assert_eq!(
            leaving(&state, 9).now(),
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
    fn nobody_wonders_when_the_idle_go() {
        let state = state(&[1, 0, 0]);
        assert_eq!(leaving(&state, 1).surprise(&state), None);
    }
}
