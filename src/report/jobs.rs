//! Formats jobs as a table.

use std::time::Duration;

use jiff::Timestamp;

use super::status::{mib, or_dash, table};
use super::{Format, structured};
use crate::jobs::JobState;

pub fn jobs(jobs: &[JobState], format: Format) -> String {
    match format {
        Format::Name => {
            let names = jobs.iter().filter_map(|job| job.id.as_ref().or(job.driver.as_ref()));
            names.map(|name| format!("{name}\n")).collect()
        }
        Format::Table if jobs.is_empty() => "No jobs\n".into(),
        Format::Table => table(
            jobs,
            &[
                ("ID", &|job| or_dash(job.id.as_ref())),
                ("NAME", &|job| job.name.clone()),
                ("USER", &|job| job.user.clone()),
                ("STATE", &|job| job.state.clone()),
                ("EXIT", &exit),
                ("CORES", &|job| job.cores.to_string()),
                ("EXECUTOR MEMORY", &|job| or_dash(job.executor_memory_mib.map(mib))),
                ("SUBMITTED", &|job| or_dash(job.submitted_ms.and_then(time))),
                ("DURATION", &|job| or_dash(job.duration_ms.map(duration))),
                ("DRIVER", &|job| or_dash(job.driver.as_ref())),
                ("WEB UI", &|job| or_dash(ui(job))),
            ],
        ),
        _ => structured(format, &jobs).unwrap_or_default(),
    }
}

/// The end of a job that `submit` waited for.
pub fn ended(application: &str, code: u8, after: Duration) -> String {
    let after = match after.as_secs() {
        0..60 => format!("{:.1} s", after.as_secs_f64()),
        _ => duration(after.as_millis() as u64),
    };
    match code {
        0 => format!("{application} ended with 0 after {after}"),
        _ => format!("{application} failed with exit code {code} after {after}"),
    }
}

/// The address of the driver's web UI, or of the history server's page.
fn ui(job: &JobState) -> Option<&String> {
    job.local_ui
        .as_ref()
        .or(job.web_ui.as_ref())
        .or(job.history_ui.as_ref())
}

/// The driver's exit code. A driver that was killed together with its script has none.
fn exit(job: &JobState) -> String {
    match (job.exit_code, job.driver_ended) {
        (Some(code), _) => code.to_string(),
        (None, true) => "unknown".into(),
        (None, false) => "-".into(),
    }
}

fn time(ms: u64) -> Option<Timestamp> {
    Timestamp::from_second((ms / 1000) as i64).ok()
}

fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_end_is_one_line() {
        let after = Duration::from_millis(12_340);
        assert_eq!(ended("wc.py", 0, after), "wc.py ended with 0 after 12.3 s");
        assert_eq!(ended("wc.py", 3, after), "wc.py failed with exit code 3 after 12.3 s");
        assert_eq!(ended("wc.py", 0, after * 20), "wc.py ended with 0 after 4m06s");
    }

    #[test]
    fn columns_line_up() {
        let list = [
            JobState {
                id: Some("app-20261121105049-0001".into()),
                name: "my job".into(),
                user: "spark".into(),
                state: "RUNNING".into(),
                cores: 2,
                executor_memory_mib: Some(1536),
                submitted_ms: Some(1_795_258_249_123),
                duration_ms: Some(61_000),
                driver: Some("spark-driver-0dd82d94".into()),
                exit_code: None,
                driver_ended: false,
                spark_state: Some("RUNNING".into()),
                web_ui: Some("http://spark-10-1-2-3.ns.k8s:4040".into()),
                ..JobState::default()
            },
            JobState {
                driver: Some("spark-driver-1".into()),
                state: "STARTING".into(),
                ..JobState::default()
            },
            JobState {
                driver: Some("spark-driver-2".into()),
                state: "FAILED".into(),
                exit_code: Some(3),
                driver_ended: true,
                ..JobState::default()
            },
            JobState {
                driver: Some("spark-driver-3".into()),
                state: "ENDED".into(),
                history_ui: Some("http://spark-history.ns.k8s:18080/history/app-3/".into()),
                local_ui: Some("http://127.65.0.4:18080/history/app-3/".into()),
                driver_ended: true,
                ..JobState::default()
            },
        ];
        let table = jobs(&list, Format::Table);
        assert_eq!(
            table,
            "ID                       NAME    USER   STATE     EXIT     CORES  EXECUTOR MEMORY  SUBMITTED             DURATION  DRIVER                 WEB UI\n\
             app-20261121105049-0001  my job  spark  RUNNING   -        2      1.5 GiB          2026-11-21T10:50:49Z  1m01s     spark-driver-0dd82d94  http://spark-10-1-2-3.ns.k8s:4040\n\
             -                                       STARTING  -        0      -                -                     -         spark-driver-1         -\n\
             -                                       FAILED    3        0      -                -                     -         spark-driver-2         -\n\
             -                                       ENDED     unknown  0      -                -                     -         spark-driver-3         http://127.65.0.4:18080/history/app-3/\n"
        );
        assert_eq!(
            jobs(&list, Format::Name),
            "app-20261121105049-0001\nspark-driver-1\nspark-driver-2\nspark-driver-3\n"
        );
        assert_eq!(jobs(&[], Format::Table), "No jobs\n");
    }
}
