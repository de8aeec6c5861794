//! Logs of a cluster on this machine: the containers' log files, and the executors' in the workers' folders. Following polls whether files have grown
//! or been replaced, or truncated because they had become too long: then the rest is in the previous log.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
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
use crate::platform::local::store::{ClusterDir, PodRecord, previous_log};
use crate::platform::local::submitted;
use crate::platform::system::file_id;

/// How often files are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How many of the bytes read last identify the log in which they are.
const LAST_BYTES: usize = 1024;
/// Where a truncated log cannot be read on in the previous log.
const MISSING: &str = "sparkha: this log was truncated faster than it was read; lines may be missing here";

/// The log files of one cluster.
pub struct LocalLogs {
    pub dir: ClusterDir,
    pub selection: LogSelection,
    pub options: LogOptions,
}

/// A file that is being read.
struct LogFile {
    source: Arc<str>,
    reader: BufReader<ContinuousLog>,
    id: (u64, u64),
    time: Time,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

/// Reads a log across truncations: after one it reads the rest in the previous log first.
struct ContinuousLog {
    log: File,
    path: PathBuf,
    /// The number of bytes that were read since the log was truncated.
    position: u64,
    /// The bytes read last, at most [`LAST_BYTES`].
    last: Vec<u8>,
    /// The previous log, until something after it is read.
    previous: Option<File>,
}

impl Read for ContinuousLog {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(previous) = &mut self.previous {
                let read = previous.read(buffer)?;
                if read > 0 {
                    self.remember(&buffer[..read]);
                    return Ok(read);
                }
            }
            self.log.seek(SeekFrom::Start(self.position))?;
            let read = self.log.read(buffer)?;
            // Checked afterwards: what was read may be what was written after a truncation.
            if !self.is_truncated()? {
                if read > 0 {
                    self.previous = None;
                    self.position += read as u64;
                    self.remember(&buffer[..read]);
                }
                return Ok(read);
            }
            self.previous = self.rest()?;
            self.position = 0;
            if self.previous.is_none() {
                let begin = if self.last.ends_with(b"\n") { "" } else { "\n" };
                self.last.clear();
                return format!("{begin}{MISSING}\n").as_bytes().read(buffer);
            }
        }
    }
}

impl ContinuousLog {
    /// Whether the log no longer has what was read of it. If that is nothing, whether there is another previous log than the one before it.
    fn is_truncated(&self) -> io::Result<bool> {
        match &self.previous {
            _ if self.position > 0 => Ok(!self.is_read(&self.log)?),
            Some(previous) => {
                let id = file_id(&previous.metadata()?);
                let now = fs::metadata(previous_log(&self.path));
                Ok(now.is_ok_and(|now| file_id(&now) != id))
            }
            None => Ok(false),
        }
    }

    /// The previous log after what was read; `None` if it is another.
    fn rest(&self) -> io::Result<Option<File>> {
        let Ok(previous) = File::open(previous_log(&self.path)) else {
            return Ok(None);
        };
        let continues = self.position > 0 && self.is_read(&previous)?;
        Ok(continues.then_some(previous))
    }

    /// Whether a file has the last bytes before the position, at which it is then.
    fn is_read(&self, mut file: &File) -> io::Result<bool> {
        let length = self.last.len().min(self.position as usize);
        file.seek(SeekFrom::Start(self.position - length as u64))?;
        let mut bytes = vec![0; length];
        match file.read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            read => read.map(|()| self.last.ends_with(&bytes)),
        }
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.last.extend(bytes);
        let surplus = self.last.len().saturating_sub(LAST_BYTES);
        self.last.drain(..surplus);
    }
}

impl Iterator for LogFile {
    type Item = LogLine;

    /// The next whole line, if there is one.
    fn next(&mut self) -> Option<LogLine> {
        self.reader.read_until(b'\n', &mut self.rest).ok()?;
        self.rest.ends_with(b"\n").then(|| self.take_line())
    }
}

impl LogFile {
    fn open(source: &str, path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self {
            source: source.into(),
            id: file_id(&file.metadata()?),
            reader: BufReader::new(ContinuousLog {
                log: file,
                path: path.to_owned(),
                position: 0,
                last: Vec::new(),
                previous: None,
            }),
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
    use crate::platform::local::logs::cut_one;

    #[test]
    fn since_may_be_any_duration() {
        let ages = [0, 1, 100, u32::MAX].map(|years| oldest(365 * 24 * Duration::from_secs(3600) * years));
        assert!(ages.is_sorted_by(|younger, older| younger > older), "{ages:?}");
    }

    /// A log that is written, and truncated as by the supervisor.
    struct Written {
        _folder: tempfile::TempDir,
        path: PathBuf,
        writer: File,
        lines: u32,
    }

    impl Written {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("pod.log");
            let writer = File::options().create(true).append(true).open(&path).unwrap();
            Self {
                _folder: folder,
                path,
                writer,
                lines: 0,
            }
        }

        fn write(&mut self, lines: u32) {
            for line in self.lines..self.lines + lines {
                writeln!(self.writer, "line {line}").unwrap();
            }
            self.lines += lines;
        }

        fn cut(&self) {
            cut_one(&self.path, &previous_log(&self.path)).unwrap();
        }
    }

    fn texts(log: &mut LogFile) -> Vec<String> {
        log.map(|line| line.text).collect()
    }

    #[test]
    fn every_line_of_a_truncated_log_is_read() {
        // Lines before the truncation and after it: the new log is shorter than what was read, or longer.
        for (before, after) in [
            (0, 0),
            (0, 1),
            (1, 0),
            (1, 2),
            (1, 900),
            (900, 1),
            (900, 2900),
            (2900, 900),
        ] {
            let mut written = Written::new();
            let mut log = LogFile::open("pod", &written.path).unwrap();
            written.write(200);
            let mut read = texts(&mut log);
            for _ in 0..3 {
                written.write(before);
                write!(written.writer, "line ").unwrap();
                written.cut();
                writeln!(written.writer, "{}", written.lines).unwrap();
                written.lines += 1;
                written.write(after);
                read.extend(texts(&mut log));
            }
            let expected: Vec<_> = (0..written.lines).map(|line| format!("line {line}")).collect();
            assert_eq!(read, expected, "{before} {after}");
        }
    }

    #[test]
    fn lines_that_were_truncated_twice_are_reported_missing() {
        let mut written = Written::new();
        let mut log = LogFile::open("pod", &written.path).unwrap();
        written.write(1);
        assert_eq!(texts(&mut log), ["line 0"]);
        for _ in 0..2 {
            written.write(1);
            written.cut();
        }
        written.write(1);
        assert_eq!(texts(&mut log), [MISSING, "line 3"]);
        // Truncated again while the previous log is read.
        written.write(2000);
        written.cut();
        assert_eq!(log.next().map(|line| line.text), Some("line 4".into()));
        written.write(1);
        written.cut();
        written.write(1);
        let read = texts(&mut log);
        let missing = read.iter().position(|line| line == MISSING).unwrap();
        assert_eq!(read[missing - 1..], ["line 2003", MISSING, "line 2005"]);
    }

    #[test]
    fn a_log_without_a_previous_one_is_read_from_its_beginning() {
        let mut written = Written::new();
        let mut log = LogFile::open("pod", &written.path).unwrap();
        written.writer.write_all(b"one\ntwo\nhal").unwrap();
        assert_eq!(texts(&mut log), ["one", "two"]);
        written.writer.write_all(b"f\nbegun").unwrap();
        assert_eq!(texts(&mut log), ["half"]);
        written.writer.set_len(0).unwrap();
        written.writer.write_all(b"new\n").unwrap();
        assert_eq!(texts(&mut log), ["begun", MISSING, "new"]);
    }
}
