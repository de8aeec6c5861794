//! Logs of pods and drivers on this machine. Processes append to them, so that they can be truncated meanwhile.

use std::fs::{self, File};
use std::path::Path;

use super::Error;
use super::store::{ClusterDir, PREVIOUS_LOG, make_folder, names};

/// A longer log is truncated, as a kubelet rotates it at this size: 10 MiB.
const LOG_MAX: u64 = 10 << 20;

/// Opens a new log for the output and errors of a pod or driver. A log of an earlier run becomes the previous log.
pub fn open(dir: &ClusterDir, name: &str) -> Result<(File, File), Error> {
    let (log, previous) = (dir.log(name), dir.previous_log(name));
    make_folder(&dir.logs())?;
    if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        fs::rename(&log, &previous).map_err(Error::file("rename", &log))?;
    }
    append(&log)
}

/// Opens a log for both the output and the errors of a process.
pub fn append(log: &Path) -> Result<(File, File), Error> {
    let opened = File::options().create(true).append(true).open(log);
    let both = opened.and_then(|file| Ok((file.try_clone()?, file)));
    both.map_err(Error::file("write", log))
}

/// Truncates logs that are too long. Their contents become the previous log.
pub fn cut(dir: &ClusterDir) {
    let mut files = names(&dir.logs()).unwrap_or_default();
    files.retain(|file| !file.ends_with(PREVIOUS_LOG));
    for name in files.iter().filter_map(|file| file.strip_suffix(".log")) {
        let log = dir.log(name);
        if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > LOG_MAX)
            && let Err(error) = cut_one(&log, &dir.previous_log(name))
        {
            tracing::warn!("failed to truncate {}: {error}", log.display());
        }
    }
}

/// Truncates a log after a copy to the previous log.
pub fn cut_one(log: &Path, previous: &Path) -> std::io::Result<()> {
    // A new file: a follower may still read the one before.
    let new = previous.with_extension("new");
    let _ = fs::remove_file(previous);
    if let Err(error) = fs::copy(log, &new).and_then(|_| fs::rename(&new, previous)) {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    File::options().write(true).open(log)?.set_len(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn logs_of_pods_and_drivers_are_truncated_while_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let dir = ClusterDir::at(&folder.path().join("default/spark")).unwrap();
        for name in ["spark-driver-0dd82d94", "spark-master-0"] {
            let (mut output, errors) = open(&dir, name).unwrap();
            errors.set_len(LOG_MAX).unwrap();
            cut(&dir);
            assert_eq!(
                output.metadata().unwrap().len(),
                LOG_MAX,
                "{name}: it is not too long yet"
            );
            output.write_all(b"x").unwrap();
            cut(&dir);
            assert_eq!(output.metadata().unwrap().len(), 0, "{name}");
            output.write_all(b"goes on").unwrap();
            assert_eq!(fs::read_to_string(dir.log(name)).unwrap(), "goes on", "{name}");
            let previous = fs::metadata(dir.previous_log(name)).unwrap().len();
            assert_eq!(previous, LOG_MAX + 1, "{name}");
            // The previous log is not truncated, and the next run's log replaces it.
            cut(&dir);
            assert_eq!(fs::metadata(dir.previous_log(name)).unwrap().len(), previous, "{name}");
            open(&dir, name).unwrap();
            assert_eq!(fs::read_to_string(dir.previous_log(name)).unwrap(), "goes on", "{name}");
        }
    }
}
