//! The history server and the location of event logs.

use std::collections::BTreeMap;

use super::{Resolver, pods, rules};
use crate::spec::file::tree::join;
use crate::spec::file::{AccessMode, Amount, ClaimFile, EventLogsFile, HistoryFile, SourceFile};
use crate::spec::quantity::{Cpu, Memory};
use crate::spec::{EventLogs, History, VolumeSource};

/// Default size of the event logs' volume.
const DEFAULT_STORAGE: &str = "20Gi";
/// Spark's default, and the minimum that it accepts.
const DEFAULT_FILE_SIZE: Memory = Memory::from_mib(128);
const LEAST_FILE_SIZE: Memory = Memory::from_mib(10);
/// By default Spark would keep all files.
const DEFAULT_FILES: u32 = 10;
/// Spark's default if its cleaner is enabled.
const DEFAULT_MAX_AGE: &str = "7d";
/// Properties with the location of event logs, which must be the same for drivers and the history server.
const PLACES: [&str; 2] = ["spark.eventLog.dir", "spark.history.fs.logDirectory"];

impl Resolver {
    pub(super) fn history(
        &mut self,
        history: HistoryFile,
        has_s3: bool,
        spark_conf: &BTreeMap<String, String>,
    ) -> Option<History> {
        for key in PLACES.into_iter().filter(|key| spark_conf.contains_key(*key)) {
            self.problem(
                &join("sparkConf", key),
                "sparkha sets this property from history",
                "use history.eventLogs",
            );
        }
        let event_logs = self.event_logs(history.event_logs, has_s3);
        let rolling = history.rolling.unwrap_or_default();
        let size_path = "history.rolling.maxFileSize";
        let max_file_size = self.memory(size_path, &rolling.max_file_size, DEFAULT_FILE_SIZE);
        if max_file_size < LEAST_FILE_SIZE {
            self.problem(
                size_path,
                format!("Spark does not roll files below {LEAST_FILE_SIZE}"),
                "raise it",
            );
        }
        let max_age = history
            .max_age
            .map_or_else(|| DEFAULT_MAX_AGE.into(), |age| age.to_string());
        self.obey("history.maxAge", rules::spark_time(&max_age));
        let daemon_memory = self.memory("history.daemonMemory", &history.daemon_memory, Memory::from_mib(512));
        let defaults = pods::Defaults {
            cpu_limit: Cpu::from_cores(1),
            cpu_request: Cpu::from_millis(100),
            memory: Memory::from_mib(1024),
        };
        let pod = self.pod("history", history.pod, defaults);
        self.heap_fits("history", "daemonMemory", daemon_memory, pod.resources.memory_limit);
        Some(History {
            event_logs: event_logs?,
            max_file_size,
            max_files_to_retain: rolling.max_files_to_retain.unwrap_or(DEFAULT_FILES),
            max_age,
            daemon_memory,
            pod,
        })
    }

    fn event_logs(&mut self, file: Option<EventLogsFile>, has_s3: bool) -> Option<EventLogs> {
        let path = "history.eventLogs";
        let source = match file {
            Some(EventLogsFile::Url(url)) => return self.s3_folder(path, url, has_s3).map(EventLogs::S3),
            Some(EventLogsFile::Volume(source)) => *source,
            None => SourceFile {
                new_claim: Some(ClaimFile {
                    size: Amount::Text(DEFAULT_STORAGE.into()),
                    storage_class_name: None,
                    access_mode: None,
                }),
                ..SourceFile::default()
            },
        };
        let new_claim = source.new_claim.map(|claim| ClaimFile {
            // Drivers on any node write to it.
            access_mode: claim.access_mode.or(Some(AccessMode::ReadWriteMany)),
            ..claim
        });
        let source = self.one_source(path, SourceFile { new_claim, ..source })?;
        if let VolumeSource::EmptyDir { .. } | VolumeSource::ConfigMap { .. } | VolumeSource::Secret { .. } = source {
            self.problem(
                path,
                "drivers and the history server cannot share this volume",
                "use newClaim, persistentVolumeClaim, hostPath, nfs or an s3a:// URL",
            );
            return None;
        }
        Some(EventLogs::Volume(source))
    }

    fn s3_folder(&mut self, path: &str, url: String, has_s3: bool) -> Option<String> {
        let bucket = url.strip_prefix("s3a://").map(|rest| rest.split('/').next());
        if bucket.flatten().is_none_or(str::is_empty) || url.contains(char::is_whitespace) {
            self.problem(
                path,
                format!("`{url}` is not a folder in an S3 store"),
                "write it like s3a://bucket/events, or use a volume",
            );
            return None;
        }
        if !has_s3 {
            self.problem(
                path,
                "event logs in an S3 store require s3 in the cluster file",
                "add `s3: {}` for AWS with the pods' own permissions, or set its endpoint and secret",
            );
            return None;
        }
        Some(url)
    }
}
