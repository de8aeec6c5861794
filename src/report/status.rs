//! Clusters as tables.

use comfy_table::{ContentArrangement, Table, presets};

use super::{Format, structured};
use crate::observe::{ClusterState, PodState, ZooKeeperState};

/// One cluster.
pub fn cluster(state: &ClusterState, format: Format) -> String {
    match format {
        Format::Name => format!("{}\n", state.name),
        Format::Table => table_of(state),
        _ => structured(format, state).unwrap_or_default(),
    }
}

/// Many clusters, a line each.
pub fn clusters(states: &[ClusterState], format: Format) -> String {
    match format {
        Format::Name => states
            .iter()
            .map(|state| format!("{}/{}\n", state.namespace, state.name))
            .collect(),
        Format::Table if states.is_empty() => "No clusters\n".into(),
        Format::Table => {
            let mut table = new_table(&[
                "NAMESPACE",
                "NAME",
                "STATE",
                "LEADER",
                "WORKERS",
                "CORES",
                "MEMORY",
                "APPS",
            ]);
            for state in states {
                let workers = &state.workers;
                table.add_row([
                    state.namespace.clone(),
                    state.name.clone(),
                    if state.ready {
                        "in service".into()
                    } else {
                        "not ready".to_owned()
                    },
                    leader(state).unwrap_or_else(|| "none".into()),
                    format!("{}/{}", workers.registered, workers.expected),
                    format!("{}/{}", workers.cores_used, workers.cores),
                    format!("{}/{}", mib(workers.memory_used_mib), mib(workers.memory_mib)),
                    state.applications.len().to_string(),
                ]);
            }
            lines(&table)
        }
        _ => structured(format, &states).unwrap_or_default(),
    }
}

fn table_of(state: &ClusterState) -> String {
    let mut text = format!(
        "Cluster    {}/{}  {}\n",
        state.namespace,
        state.name,
        if state.ready { "in service" } else { "NOT READY" }
    );
    for reason in &state.not_ready {
        text.push_str(&format!("           - {reason}\n"));
    }
    let workers = &state.workers;
    text.push_str(&format!("Image      {}\n", state.image));
    text.push_str(&format!("Master URL {}\n", state.master_url));
    text.push_str(&format!("Web UI     {}\n", state.web_ui));
    text.push_str(&format!(
        "Workers    {} of {} registered, {} of {} cores and {} of {} in use\n\n",
        workers.registered,
        workers.expected,
        workers.cores_used,
        workers.cores,
        mib(workers.memory_used_mib),
        mib(workers.memory_mib),
    ));
    text.push_str(&lines(&members(state)));
    if !state.applications.is_empty() {
        let mut table = new_table(&["APPLICATION", "NAME", "CORES", "STATE", "USER"]);
        for app in &state.applications {
            table.add_row([&app.id, &app.name, &app.cores.to_string(), &app.state, &app.user]);
        }
        text.push('\n');
        text.push_str(&lines(&table));
    }
    text
}

fn members(state: &ClusterState) -> Table {
    let mut table = new_table(&["MEMBER", "STATE", "POD", "RESTARTS", "CORES", "MEMORY", "WEB UI"]);
    let mut row = |pod: &PodState, state: String, cores: String, memory: String, ui: Option<&String>| {
        table.add_row([
            pod.name.clone(),
            state,
            pod.phase.clone(),
            pod.restarts.to_string(),
            cores,
            memory,
            ui.cloned().unwrap_or_else(|| "-".into()),
        ]);
    };
    let none = || "-".to_owned();
    for master in &state.masters {
        let status = master
            .status
            .map_or_else(|| "no answer".into(), |status| status.to_string());
        row(&master.pod, status, none(), none(), master.web_ui.as_ref());
    }
    match &state.zookeeper {
        ZooKeeperState::None => {}
        ZooKeeperState::Managed { servers } => {
            for server in servers {
                let mode = server.mode.map_or_else(|| "no quorum".into(), |mode| mode.to_string());
                row(&server.pod, mode, none(), none(), None);
            }
        }
        ZooKeeperState::External { servers, directory } => {
            let pod = PodState {
                name: format!("ZooKeeper {}{directory}", servers.join(",")),
                phase: none(),
                restarts: 0,
                node: None,
            };
            row(&pod, "external".into(), none(), none(), None);
        }
    }
    for worker in &state.workers.pods {
        row(
            &worker.pod,
            worker.state.clone().unwrap_or_else(|| "not registered".into()),
            format!("{}/{}", worker.cores_used, worker.cores),
            format!("{}/{}", mib(worker.memory_used_mib), mib(worker.memory_mib)),
            worker.web_ui.as_ref(),
        );
    }
    table
}

fn leader(state: &ClusterState) -> Option<String> {
    let alive = |master: &&crate::observe::MasterState| master.status == Some(crate::spark::MasterStatus::Alive);
    state.masters.iter().find(alive).map(|master| master.pod.name.clone())
}

/// As kubectl's tables: no lines, no wrapping, columns that line up.
pub(super) fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

pub(super) fn lines(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn mib(mib: u64) -> String {
    match mib {
        0..1024 => format!("{mib} MiB"),
        _ => format!("{:.1} GiB", mib as f64 / 1024.0),
    }
}

/// What a dry run would write.
pub fn dry_run(would: &[String], format: Format) -> String {
    match format {
        Format::Table if would.is_empty() => "Nothing would change\n".into(),
        Format::Table | Format::Name => would.iter().map(|line| format!("{line}\n")).collect(),
        _ => structured(format, &would).unwrap_or_default(),
    }
}
