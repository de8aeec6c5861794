//! The running applications of a cluster, which a change may disturb. Pure.

use crate::lifecycle::Error;
use crate::model::error_chain::with_sources;
use crate::model::reports::ApplicationReport;
use crate::spec::names::visible;
use crate::spec::words::{counted, listed};
use crate::state::ClusterState;

/// One line for an application: `app-1 squares of ann (2 cores)`.
pub fn described(app: &ApplicationReport) -> String {
    let cores = counted(app.cores, "core");
    visible(&format!("{} {} of {} ({cores})", app.id, app.name, app.user))
}

/// The running applications of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Applications {
    /// ID, name, user and cores of each.
    Running(Vec<String>),
    /// Why they are not known.
    Unknown(String),
}

impl Applications {
    /// As reported by the leader. Without a running master or worker there are none.
    pub fn of(state: Result<ClusterState, Error>) -> Self {
        let state = match state {
            Ok(state) => state,
            Err(error) => return Applications::Unknown(with_sources(&error)),
        };
        let masters = state.masters.iter().map(|master| &master.pod);
        let mut pods = masters.chain(state.workers.pods.iter().map(|worker| &worker.pod));
        if state.leader().is_some() {
            Applications::Running(state.applications.iter().map(described).collect())
        } else if pods.any(|pod| pod.phase == "Running") {
            Applications::Unknown("no master leads".into())
        } else {
            Applications::Running(vec![])
        }
    }

    /// Whether no application is known to run.
    pub fn are_none(&self) -> bool {
        matches!(self, Applications::Running(names) if names.is_empty())
    }

    /// One line for each, or the reason why they are not known.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Applications::Running(names) => names.clone(),
            Applications::Unknown(reason) => {
                vec![format!("applications may be running, sparkha cannot tell: {reason}")]
            }
        }
    }

    /// One line for all; `None` if there are none.
    pub fn line(&self) -> Option<String> {
        match self {
            Applications::Running(names) => match names.len() {
                0 => None,
                1 => Some(format!("1 application runs: {}", listed(names))),
                count => Some(format!("{count} applications run: {}", listed(names))),
            },
            Applications::Unknown(_) => self.lines().pop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reports::MasterStatus;

    #[test]
    fn without_a_leader_running_pods_mean_unknown_applications() {
        let mut state = crate::state::tests::state();
        state.masters.truncate(1);
        state.workers.pods.clear();
        state.applications.clear();
        state.masters[0].pod.phase = "Pending".into();
        state.masters[0].status = None;
        let of = |state: &ClusterState| Applications::of(Ok(state.clone()));
        assert_eq!(of(&state), Applications::Running(vec![]));
        state.masters[0].pod.phase = "Running".into();
        assert_eq!(of(&state), Applications::Unknown("no master leads".into()));
        state.masters[0].status = Some(MasterStatus::Alive);
        assert_eq!(of(&state), Applications::Running(vec![]));
        let forbidden = Error::Driver {
            message: "forbidden".into(),
            help: String::new(),
        };
        assert_eq!(
            Applications::of(Err(forbidden)),
            Applications::Unknown("forbidden".into())
        );
    }

    #[test]
    fn a_name_stays_on_its_line() {
        let mut app = crate::state::tests::state().applications.remove(0);
        (app.id, app.name, app.user) = ("app-1".into(), "a\n\u{1b}[2J".into(), "ann".into());
        app.cores = 2;
        assert_eq!(described(&app), r"app-1 a\n\u{1b}[2J of ann (2 cores)");
    }

    #[test]
    fn long_lists_of_names_are_shortened() {
        let names: Vec<_> = (0..7).map(|number| format!("app-{number}")).collect();
        let line = Applications::Running(names).line().unwrap();
        assert_eq!(line, "7 applications run: app-0, app-1, app-2, app-3, app-4 and 2 more");
    }
}
