//! Formats clusters as tables.

use comfy_table::{ContentArrangement, Row, Table, presets};
use jiff::{SignedDuration, Timestamp};

use crate::console::hint;
use crate::render::inventory::ExecutorsSummary;
use crate::report::{Format, structured};
use crate::spec::names::{visible, visible_lines};
use crate::spec::words::counted;
use crate::state::overview::Overview;
use crate::state::{ClusterState, PodState, ZooKeeperState};

/// One cluster.
pub fn cluster(state: &ClusterState, format: Format) -> String {
    match format {
        Format::Name => format!("{}\n", state.name),
        Format::Table => table_of(state),
        _ => structured(format, state).unwrap_or_default(),
    }
}

/// Clusters, one per line.
pub fn clusters(overviews: &[Overview], now: Timestamp, format: Format) -> String {
    match format {
        Format::Name => overviews
            .iter()
            .map(|cluster| format!("{}/{}\n", cluster.namespace, cluster.name))
            .collect(),
        Format::Table if overviews.is_empty() => "No clusters\n".into(),
        Format::Table => {
            let age_of = |cluster: &Overview| Some(age(now.duration_since(cluster.created.as_ref()?.0)));
            table(
                overviews,
                &[
                    ("NAMESPACE", &|cluster| cluster.namespace.clone()),
                    ("NAME", &|cluster| cluster.name.clone()),
                    ("STATE", &|cluster| word(cluster).into()),
                    ("MASTERS", &|cluster| cluster.masters.to_string()),
                    ("ZOOKEEPER", &|cluster| or_dash(cluster.zookeeper)),
                    ("WORKERS", &|cluster| cluster.workers.to_string()),
                    ("AGE", &|cluster| or_dash(age_of(cluster))),
                    ("IMAGE", &|cluster| cluster.image.clone()),
                ],
            )
        }
        _ => structured(format, &overviews).unwrap_or_default(),
    }
}

/// Ready pods do not imply that the cluster is in service: only masters and ZooKeeper servers report that.
fn word(cluster: &Overview) -> &'static str {
    match (cluster.in_service, cluster.ready) {
        (Some(true), _) => "in service",
        (Some(false), _) => "not ready",
        (None, true) => "pods ready",
        (None, false) => "pods not ready",
    }
}

/// A duration as in kubectl, in the largest unit that fits twice.
fn age(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn table_of(state: &ClusterState) -> String {
    let mut text = format!(
        "Cluster    {}/{}  {}\n",
        state.namespace,
        state.name,
        if state.ready { "in service" } else { "NOT READY" }
    );
    if let Some(alias) = &state.alias {
        text.push_str(&format!("Known as   {alias}\n"));
    }
    for reason in &state.not_ready {
        text.push_str(&hint::complete(&format!("           - {reason}\n")));
    }
    for warning in &state.warnings {
        text.push_str(&hint::complete(&format!(
            "           ! {warning}\n             {}\n",
            warning.help()
        )));
    }
    let workers = &state.workers;
    text.push_str(&format!("Image      {}\n", state.image));
    if let Some(upgrade) = &state.upgrade {
        let told = format!("Upgrade    {upgrade}\n           {}\n", upgrade.help());
        text.push_str(&hint::complete(&told));
    }
    text.push_str(&format!("Master URL {}\n", state.master_url));
    text.push_str(&format!("Web UI     {}\n", state.reachable_cluster_ui()));
    if let Some(history) = &state.history {
        let ui = state.reachable_ui(&history.pod.name, &history.web_ui);
        text.push_str(&format!("History    {ui}\n"));
    }
    if let Some(connect) = &state.connect {
        text.push_str(&format!("Connect    {}\n", connect.url));
        if connect.needs_token {
            text.push_str(&hint::complete("           with its token: `sparkha connect-url`\n"));
        }
        if let Some(forward) = &connect.forward {
            text.push_str(&format!("           from outside: {forward}\n"));
        }
    }
    text.push_str(&format!(
        "Workers    {}, {} of {} and {} of {} in use\n",
        workers.registration(),
        workers.cores_used,
        counted(workers.cores, "core"),
        mib(workers.memory_used_mib),
        mib(workers.memory_mib),
    ));
    if let Some(executors) = &state.executors {
        text.push_str(&format!(
            "Executors  {}\n",
            application_defaults(executors, workers.cores)
        ));
    }
    text.push('\n');
    text.push_str(&lines(&members(state)));
    if !state.applications.is_empty() {
        text.push('\n');
        text.push_str(&table(
            &state.applications,
            &[
                ("APPLICATION", &|app| app.id.clone()),
                ("NAME", &|app| app.name.clone()),
                ("CORES", &|app| app.cores.to_string()),
                ("STATE", &|app| app.state.clone()),
                ("USER", &|app| app.user.clone()),
            ],
        ));
        text.extend(state.waiting().into_iter().map(|line| line + "\n"));
    }
    visible_lines(&text)
}

/// Defaults of applications.
fn application_defaults(executors: &ExecutorsSummary, cores: u32) -> String {
    let all = match executors.default_cores {
        Some(default) if default < cores => format!("{default} of {cores} cores"),
        _ => "all free cores".into(),
    };
    format!(
        "{} and {}; an application gets {all} by default",
        counted(executors.cores, "core"),
        mib(executors.memory_mib)
    )
}

fn members(state: &ClusterState) -> Table {
    let mut table = new_table(&["MEMBER", "STATE", "POD", "RESTARTS", "CORES", "MEMORY", "WEB UI"]);
    let mut row = |pod: &PodState, shown: String, cores: String, memory: String, ui: Option<&String>| {
        table.add_row(row_of([
            pod.name.clone(),
            shown,
            pod.phase.clone(),
            pod.restarts.to_string(),
            cores,
            memory,
            or_dash(ui.map(|routed| state.reachable_ui(&pod.name, routed))),
        ]));
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
            state.workers.shown_state(worker),
            format!("{}/{}", worker.cores_used, worker.cores),
            format!("{}/{}", mib(worker.memory_used_mib), mib(worker.memory_mib)),
            worker.web_ui.as_ref(),
        );
    }
    if let Some(history) = &state.history {
        let said = readiness(history.ready);
        row(&history.pod, said, none(), none(), Some(&history.web_ui));
    }
    if let Some(connect) = &state.connect {
        let said = readiness(connect.ready);
        row(&connect.pod, said, none(), none(), connect.web_ui.as_ref());
    }
    table
}

fn readiness(ready: bool) -> String {
    if ready { "ready" } else { "not ready" }.to_owned()
}

/// A column: its header, and how to show it in a row.
pub(super) type Column<'a, T> = (&'static str, &'a dyn Fn(&T) -> String);

/// A row for each of the items.
pub(super) fn table<T>(items: &[T], columns: &[Column<'_, T>]) -> String {
    let headers: Vec<_> = columns.iter().map(|(header, _)| *header).collect();
    let mut table = new_table(&headers);
    for item in items {
        table.add_row(row_of(columns.iter().map(|(_, shown)| shown(item))));
    }
    lines(&table)
}

/// Cells may have text of applications, whose authors choose names and users.
fn row_of(cells: impl IntoIterator<Item = String>) -> Row {
    cells.into_iter().map(|cell| visible(&cell)).collect::<Vec<_>>().into()
}

/// A dash stands for nothing.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// A table like kubectl's: without lines or wrapping, with aligned columns.
fn new_table(header: &[&str]) -> Table {
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

fn lines(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

pub(super) fn mib(mib: u64) -> String {
    match mib {
        0..1024 => format!("{mib} MiB"),
        _ => format!("{:.1} GiB", mib as f64 / 1024.0),
    }
}

/// Changes that a dry run would make.
pub fn dry_run(would: &[String], format: Format) -> String {
    match format {
        Format::Table if would.is_empty() => "Nothing would change\n".into(),
        Format::Table | Format::Name => would.iter().map(|line| format!("{line}\n")).collect(),
        _ => structured(format, &would).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::inventory::Upgrade;

    #[test]
    fn ages() {
        let said = [0, 119, 120, 7_199, 7_200, 172_799, 172_800, -5].map(|s| age(SignedDuration::from_secs(s)));
        assert_eq!(said, ["0s", "119s", "2m", "119m", "2h", "47h", "2d", "0s"]);
    }

    #[test]
    fn web_uis_of_local_clusters_are_shown_with_their_addresses() {
        let mut state = crate::state::tests::state();
        assert!(table_of(&state).contains("Web UI     http://spark-master.data.k8s:8080\n"));
        let address = "127.65.0.2".parse().unwrap();
        state.addresses.insert("spark-master-0".into(), address);
        state
            .addresses
            .insert("spark-worker-0".into(), "127.65.0.3".parse().unwrap());
        state.workers.pods[0].web_ui = Some("http://spark-127-65-0-3.data.k8s:8081".into());
        let table = table_of(&state);
        assert!(table.contains("Web UI     http://127.65.0.2:8080\n"), "{table}");
        assert!(table.contains("  http://127.65.0.3:8081\n"), "{table}");
    }

    #[test]
    fn text_of_applications_and_workers_cannot_control_the_terminal() {
        let mut state = crate::state::tests::state();
        state.applications[0].name = "a\u{1b}[2J\nb".into();
        state.applications[0].user = "\u{9b}c".into();
        state.workers.pods[0].web_ui = Some("http://\u{7}".into());
        let table = table_of(&state);
        assert!(!table.contains(|c: char| c.is_control() && c != '\n'), "{table:?}");
        assert!(table.contains(r"  a\u{1b}[2J\nb  "), "{table}");
        assert!(table.contains(r"  \u{9b}c"), "{table}");
        let job = crate::jobs::JobState {
            name: "\u{1b}]0;x\u{7}".into(),
            ..Default::default()
        };
        let listed = crate::report::jobs::jobs(&[job], Format::Table);
        assert!(listed.contains(r"  \u{1b}]0;x\u{7}  "), "{listed:?}");
    }

    #[test]
    fn a_pending_upgrade_is_shown_with_the_commands_to_continue_or_abort() {
        let mut state = crate::state::tests::state();
        state.upgrade = Some(Upgrade::of_images("spark:4.2.1".into(), "spark:4.3.0".into()));
        let said = table_of(&state);
        let line = "Upgrade    Spark 4.2.1 → 4.3.0 waits for running applications, and refuses new jobs\n           `sparkha upgrade";
        assert!(said.contains(line), "{said}");
    }

    #[test]
    fn application_defaults_and_reasons_for_waiting_are_shown() {
        let mut state = crate::state::tests::state();
        state.executors = Some(ExecutorsSummary {
            cores: 1,
            memory_mib: 1180,
            default_cores: Some(1),
        });
        let mut waiting = state.applications[0].clone();
        (waiting.id, waiting.state, waiting.cores) = ("app-2".into(), "WAITING".into(), 0);
        state.applications.push(waiting);
        let said = table_of(&state);
        for line in [
            "Executors  1 core and 1.2 GiB; an application gets all free cores by default\n\nMEMBER",
            "app-2 waits for executors of 600 MiB: 0 of 1 core and 682 of 1282 MiB are free; app-1 has 1\n",
        ] {
            assert!(said.contains(line), "{line}\n{said}");
        }
        state.workers.cores = 4;
        assert!(table_of(&state).contains("an application gets 1 of 4 cores by default"));
    }
}
