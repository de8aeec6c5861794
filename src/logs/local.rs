//! Logs of a cluster on this machine: the containers' log files, and the executors' in the workers' folders. Following polls whether files have grown
//! or been replaced.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use kube::ResourceExt;

use crate::logs::selection::{LogLine, LogSelection, sparks_time};
use crate::logs::{Error, LineWriter, LogOptions, in_order, leading_master, trimmed};
use crate::model::labels::Component;
use crate::model::log_line::Time;
use crate::platform::Platform;
use crate::platform::local::store::{ClusterDir, PodRecord};
use crate::platform::local::submitted;
use crate::platform::system::file_id;

/// How often files are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The log files of one cluster.
pub struct LocalLogs {
    pub dir: ClusterDir,
    pub selection: LogSelection,
    pub options: LogOptions,
}

/// A file that is being read.
struct LogFile {
    source: Arc<str>,
    reader: BufReader<File>,
    id: (u64, u64),
    time: Time,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Iterator for LogFile {
    type Item = LogLine;

    /// The next whole line, if there is one. After a log was truncated because it had become too long, it is the first line.
    fn next(&mut self) -> Option<LogLine> {
        self.reader.read_until(b'\n', &mut self.rest).ok()?;
        if self.rest.ends_with(b"\n") {
            return Some(self.take_line());
        }
        let length = self.reader.get_ref().metadata().ok()?.len();
        if length >= self.reader.stream_position().ok()? {
            return None;
        }
        self.reader.rewind().ok()?;
        // The end of the incomplete line is lost.
        self.incomplete().or_else(|| self.next())
    }
}

impl LogFile {
    fn open(source: &str, path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self {
            source: source.into(),
            id: file_id(&file.metadata()?),
            reader: BufReader::new(file),
            time: 0,
            rest: Vec::new(),
        })
    }

    /// The incomplete last line, if any.
    fn incomplete(&mut self) -> Option<LogLine> {
        (!self.rest.is_empty()).then(|| self.take_line())
    }

    /// All lines up to the end of the file, which may lack a newline.
    fn remaining_lines(mut self) -> Vec<LogLine> {
        let mut lines: Vec<_> = self.by_ref().collect();
        lines.extend(self.incomplete());
        lines
    }

    fn take_line(&mut self) -> LogLine {
        let bytes = std::mem::take(&mut self.rest);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\n', '\r']).to_owned();
        self.time = sparks_time(&text).unwrap_or(self.time);
        LogLine {
            source: self.source.clone(),
            time: self.time,
            text,
        }
    }
}

impl LocalLogs {
    /// Writes the lines. Following ends when the cluster is gone.
    pub async fn write(mut self, platform: &dyn Platform, write: LineWriter<'_>) -> Result<(), Error> {
        if !self.dir.exists() {
            return Err(Error::no_cluster(platform));
        }
        if self.options.leader {
            self.selection.sources = vec![leading_master(platform, platform.pods().await?).await?];
        }
        let since = self.options.since.and_then(oldest);
        if self.options.follow {
            return self.follow(since, write).await;
        }
        let mut logs = Vec::new();
        for (source, path) in self.files()? {
            if let Ok(log) = LogFile::open(&source, &path) {
                logs.push(stream::iter(trimmed(log.remaining_lines(), since, self.options.tail)).boxed());
            }
        }
        if logs.is_empty() {
            return Err(self.no_log()?);
        }
        in_order(logs, write).await
    }

    fn no_log(&self) -> Result<Error, Error> {
        let name = &self.dir.name;
        Ok(match self.drivers()?.first() {
            Some(driver) if !self.options.previous => Error::Usage {
                message: format!("driver {driver} has no log: it writes to the output of its `sparkha submit`"),
                help: "`sparkha submit --local --detach` gives a driver a log".into(),
            },
            _ => Error::Usage {
                message: format!("cluster {name} has no such log"),
                help: format!(
                    "`sparkha status {name} --local` shows its parts, `sparkha jobs {name} --local` its drivers"
                ),
            },
        })
    }

    /// The selected files, by the source of their lines.
    fn files(&self) -> Result<BTreeMap<String, PathBuf>, Error> {
        let mut files = BTreeMap::new();
        for name in self.drivers()? {
            files.extend(self.log(&name).map(|path| (name, path)));
        }
        for PodRecord { pod, .. } in self.dir.observed()?.pods {
            let name = pod.name_any();
            if self.selection.has(Component::of(pod.labels()), &name) {
                files.extend(self.log(&name).map(|path| (name.clone(), path)));
            }
            if Component::of(pod.labels()) == Some(Component::Worker) {
                for application in self.selection.applications() {
                    let folder = self.dir.pod(&name).join("work").join(application);
                    // A file that is followed is still read to its end after it is renamed.
                    files.extend(executors(&folder, &name, !self.options.follow));
                }
            }
        }
        Ok(files)
    }

    /// The selected run's log of a pod, if there is one.
    fn log(&self, pod: &str) -> Option<PathBuf> {
        let path = match self.options.previous {
            true => self.dir.previous_log(pod),
            false => self.dir.log(pod),
        };
        path.exists().then_some(path)
    }

    /// The selected drivers, with or without logs.
    fn drivers(&self) -> Result<Vec<String>, Error> {
        let drivers = submitted::records(&self.dir)?.into_iter().map(|record| record.name);
        Ok(drivers
            .filter(|name| self.selection.has(Some(Component::Driver), name))
            .collect())
    }

    async fn follow(self, since: Option<Time>, write: LineWriter<'_>) -> Result<(), Error> {
        let mut logs: BTreeMap<String, LogFile> = BTreeMap::new();
        let mut is_first = true;
        while self.dir.exists() {
            for (source, path) in self.files()? {
                let id = fs::metadata(&path).map(|metadata| file_id(&metadata)).ok();
                // The run before has ended: the rest of its log is in the renamed file.
                let is_another = |log: &LogFile| id.is_some_and(|id| id != log.id);
                if logs.get(&source).is_some_and(is_another)
                    && let Some(log) = logs.remove(&source)
                {
                    log.remaining_lines().iter().try_for_each(&mut *write)?;
                }
                if !logs.contains_key(&source)
                    && let Ok(mut log) = LogFile::open(&source, &path)
                {
                    if is_first {
                        let lines = trimmed(log.by_ref().collect(), since, self.options.tail);
                        lines.iter().try_for_each(&mut *write)?;
                    }
                    logs.insert(source, log);
                }
            }
            is_first = false;
            for line in logs.values_mut().flatten() {
                write(&line)?;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}

/// Both logs of each executor in an application's folder; if `rolled`, also the former ones, named `stderr--` and the time.
fn executors(folder: &Path, worker: &str, rolled: bool) -> BTreeMap<String, PathBuf> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let is_log = |name: &str| {
        let rest = name.strip_prefix("stdout").or(name.strip_prefix("stderr"));
        rest.is_some_and(|rest| rest.is_empty() || rolled && rest.starts_with("--"))
    };
    let logs = entries(folder).flat_map(|executor| {
        let number = executor.file_name().to_string_lossy().into_owned();
        entries(&executor.path()).map(move |log| {
            let name = log.file_name().to_string_lossy().into_owned();
            (name.clone(), format!("{worker}/{number} {name}"), log.path())
        })
    });
    logs.filter(|(name, _, path)| is_log(name) && path.is_file())
        .map(|(_, source, path)| (source, path))
        .collect()
}

/// The oldest time to show, in the form of Spark's lines: this machine's own time, taken for UTC.
fn oldest(since: Duration) -> Option<Time> {
    let then = Timestamp::now().saturating_sub(since).ok()?;
    // Spark's lines have whole seconds.
    let then = Timestamp::from_second(then.as_second()).ok()?;
    let here = then.to_zoned(TimeZone::system()).datetime();
    Some(here.to_zoned(TimeZone::UTC).ok()?.timestamp().as_nanosecond())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn since_may_be_any_duration() {
        let ages = [0, 1, 100, u32::MAX].map(|years| oldest(365 * 24 * Duration::from_secs(3600) * years));
        assert!(ages.is_sorted_by(|younger, older| younger > older), "{ages:?}");
    }

    #[test]
    fn a_truncated_log_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut writer = File::options().create(true).append(true).open(&path).unwrap();
        let mut log = LogFile::open("pod", &path).unwrap();
        let mut read = || {
            std::iter::from_fn(|| log.next())
                .map(|line| line.text)
                .collect::<Vec<_>>()
        };
        writer.write_all(b"one\ntwo\nhal").unwrap();
        assert_eq!(read(), ["one", "two"]);
        writer.write_all(b"f\nbegun").unwrap();
        assert_eq!(read(), ["half"]);
        writer.set_len(0).unwrap();
        writer.write_all(b"new\n").unwrap();
        assert_eq!(read(), ["begun", "new"]);
        writer.set_len(0).unwrap();
        assert_eq!(read(), Vec::<String>::new());
        writer.write_all(b"newer\n").unwrap();
        assert_eq!(read(), ["newer"]);
    }
}
