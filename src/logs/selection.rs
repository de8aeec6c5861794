//! Which logs are selected, and the times that order the lines of several. Pure.

use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::model::labels::Component;
use crate::model::log_line::Time;
use crate::render::driver;

/// The source of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// All pods of a component.
    Component(Component),
    Pod(String),
    /// An application's executors.
    Application(String),
}

/// The selected logs: the cluster if named, and the sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSelection {
    pub cluster: Option<String>,
    /// All components if empty.
    pub sources: Vec<LogSource>,
}

/// One line of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The pod, or an executor and one of its two logs.
    pub source: Arc<str>,
    pub time: Time,
    pub text: String,
}

impl LogSelection {
    /// Reads `[NAME] [PART…]`: the first word is the cluster's name, unless it is a part. A pod's name contains its cluster's.
    pub fn parse(words: &[String]) -> Self {
        let mut selection = Self::default();
        for (at, word) in words.iter().enumerate() {
            let part = source(word);
            if at == 0 && part.is_none() {
                let cluster = pod_of_cluster(word);
                selection.cluster = Some(cluster.unwrap_or(word).to_owned());
                if cluster.is_none() {
                    continue;
                }
            }
            selection
                .sources
                .push(part.unwrap_or_else(|| LogSource::Pod(word.clone())));
        }
        selection
    }

    /// Whether a pod's own log is selected.
    pub fn has(&self, component: Option<Component>, pod: &str) -> bool {
        let is_selected = |source: &LogSource| match source {
            LogSource::Component(selected) => component == Some(*selected),
            LogSource::Pod(name) => name == pod,
            LogSource::Application(_) => false,
        };
        self.sources.is_empty() || self.sources.iter().any(is_selected)
    }

    pub fn applications(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(|source| match source {
            LogSource::Application(id) => Some(id.as_str()),
            _ => None,
        })
    }
}

fn source(word: &str) -> Option<LogSource> {
    Some(LogSource::Component(match word {
        "masters" => Component::Master,
        "workers" => Component::Worker,
        "zookeeper" => Component::ZooKeeper,
        "drivers" => Component::Driver,
        "history" => Component::History,
        "connect" => Component::Connect,
        _ if word.starts_with("app-") && word[4..].starts_with(|c: char| c.is_ascii_digit()) => {
            return Some(LogSource::Application(word.to_owned()));
        }
        _ => return None,
    }))
}

/// The cluster of `NAME-master-0`, of `NAME-driver-0a1b2c3d` and the like.
fn pod_of_cluster(word: &str) -> Option<&str> {
    if let Some(cluster) = driver::cluster_of(word) {
        return Some(cluster);
    }
    let (set, ordinal) = word.rsplit_once('-')?;
    let is_number = !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit());
    let (cluster, component) = set.rsplit_once('-')?;
    (is_number && matches!(component, "master" | "worker" | "zookeeper" | "history" | "connect")).then_some(cluster)
}

/// The time at the beginning of Spark's lines: `26/11/21 14:20:56`, taken for UTC.
pub fn sparks_time(line: &str) -> Option<Time> {
    let time = DateTime::strptime("%y/%m/%d %H:%M:%S", line.get(..17)?).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> LogSelection {
        LogSelection::parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_word_is_the_cluster_unless_it_is_a_part() {
        assert_eq!(parse(&[]), LogSelection::default());
        let masters = LogSource::Component(Component::Master);
        assert_eq!(parse(&["masters"]).sources, std::slice::from_ref(&masters));
        assert_eq!(parse(&["masters"]).cluster, None);
        let etl = parse(&["etl", "masters", "my-driver", "app-20261121144500-0001"]);
        assert_eq!(etl.cluster.as_deref(), Some("etl"));
        let driver = LogSource::Pod("my-driver".into());
        let application = LogSource::Application("app-20261121144500-0001".into());
        assert_eq!(etl.sources, [masters, driver, application]);
        assert_eq!(etl.applications().collect::<Vec<_>>(), ["app-20261121144500-0001"]);
        let pod = parse(&["etl-a-worker-12"]);
        assert_eq!(pod.cluster.as_deref(), Some("etl-a"));
        assert_eq!(pod.sources, [LogSource::Pod("etl-a-worker-12".into())]);
        assert_eq!(parse(&["app-store"]).cluster.as_deref(), Some("app-store"));
        let driver = parse(&["etl-a-driver-0a1b2c3d"]);
        assert_eq!(driver.cluster.as_deref(), Some("etl-a"));
        assert_eq!(driver.sources, [LogSource::Pod("etl-a-driver-0a1b2c3d".into())]);
        assert_eq!(parse(&["etl-driver-mine"]).cluster.as_deref(), Some("etl-driver-mine"));
        for part in ["history", "connect"] {
            assert_eq!(parse(&[part]).cluster, None);
            assert_eq!(parse(&[&format!("etl-{part}-0")]).cluster.as_deref(), Some("etl"));
        }
    }

    #[test]
    fn sources_select_pods() {
        let workers = parse(&["workers", "spark-master-1"]);
        assert!(workers.has(Some(Component::Worker), "spark-worker-0"));
        assert!(workers.has(Some(Component::Master), "spark-master-1"));
        assert!(!workers.has(Some(Component::Master), "spark-master-0"));
        assert!(parse(&["spark"]).has(Some(Component::ZooKeeper), "z"));
        assert!(!parse(&["app-2026"]).has(Some(Component::Worker), "w"));
    }

    #[test]
    fn parses_the_time_that_spark_writes() {
        let time = |line| sparks_time(line).unwrap();
        assert_eq!(
            time("26/11/21 14:20:57 INFO x") - time("26/11/21 14:20:56 WARN y"),
            1_000_000_000
        );
        for other in ["", "\tat java.lang.Thread", "26/13/21 14:20:57 x", "äöüäöüäöüäöüäöü"] {
            assert_eq!(sparks_time(other), None);
        }
    }
}
