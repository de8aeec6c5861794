//! The application, its files and its configuration, in the terms of spark-submit. All errors in them are found here,
//! before anything is created.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::properties;
use crate::render::inventory::WorkersSummary;
use crate::spec::caps;
use crate::spec::problem::{Problem, Problems};
use crate::spec::quantity::Memory;

pub const EXECUTOR_CORES: &str = "spark.executor.cores";
const EXECUTOR_MEMORY: &str = "spark.executor.memory";
pub const CORES_MAX: &str = "spark.cores.max";
pub const DRIVER_MEMORY: &str = "spark.driver.memory";
/// Spark's default heap of a driver.
const DEFAULT_DRIVER_MEMORY: Memory = Memory::from_mib(1024);

/// An application with its files and configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// A `.py` or `.jar` file on this machine, or a URI that Spark fetches itself.
    pub application: String,
    pub arguments: Vec<String>,
    pub class: Option<String>,
    pub py_files: Vec<String>,
    pub files: Vec<String>,
    pub jars: Vec<String>,
    pub archives: Vec<String>,
    pub packages: Vec<String>,
    pub repositories: Vec<String>,
    /// Content of a properties file; `conf` takes precedence.
    pub properties: String,
    /// `spark.*` properties, including those with an option of their own.
    pub conf: BTreeMap<String, String>,
}

/// The executor resources that an application sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceRequest {
    pub executor_memory: Option<Memory>,
    pub executor_cores: Option<u32>,
}

/// A file on this machine and its name at the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    pub path: PathBuf,
    /// Path below the folder of sent files.
    pub sent_as: String,
}

/// A job whose files exist.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedJob {
    pub job: Job,
    pub files: Vec<LocalFile>,
}

impl Job {
    /// The name of the application's file without its folder.
    pub fn file_name(&self) -> String {
        let name = self.application.rsplit('/').next();
        name.unwrap_or_default().to_owned()
    }

    /// Whether it is a Python application, whose workers need memory beside the heap.
    pub fn is_python(&self) -> bool {
        self.application.ends_with(".py")
    }

    /// The lists of files with their options. Executors get the files of one group in one folder.
    fn lists(&self) -> [(&'static str, &[String]); 4] {
        [
            ("--jars", &self.jars),
            ("--files", &self.files),
            ("--py-files", &self.py_files),
            ("--archives", &self.archives),
        ]
    }

    /// Checks all files. Reports all errors at once.
    pub fn check(self) -> Result<CheckedJob, Problems> {
        let of_application =
            |message| Problem::flag("APPLICATION", message).help("name a .py or .jar file of this machine");
        let mut list: Vec<_> = readable(&self.application)
            .err()
            .map(of_application)
            .into_iter()
            .collect();
        let mut problem = |flag: &'static str, message: String| list.push(Problem::flag(flag, message));
        if !self.application.ends_with(".jar") && !self.is_python() {
            problem(
                "APPLICATION",
                format!("{} is neither a .py nor a .jar file", self.application),
            );
        }
        for (flag, files) in self.lists() {
            let unreadable = files.iter().filter_map(|file| readable(file).err());
            unreadable.for_each(|message| problem(flag, message));
        }
        for clash in self.clashes() {
            problem("--files", clash);
        }
        if !list.is_empty() {
            return Err(Problems {
                file: String::new(),
                list,
            });
        }
        let mut files: Vec<LocalFile> = Vec::new();
        let listed = self.lists().into_iter().flat_map(|(_, files)| files);
        for path in std::iter::once(&self.application)
            .chain(listed)
            .filter_map(|file| local(file))
        {
            if files.iter().all(|file| file.path != path) {
                // One folder per file: files with the same name do not clash.
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let sent_as = format!("files/{}/{name}", files.len());
                files.push(LocalFile { path, sent_as });
            }
        }
        Ok(CheckedJob { job: self, files })
    }

    /// Spark puts all files in one folder of the executor, and all jars in another. It fails on two files with the same
    /// name, possibly after minutes.
    fn clashes(&self) -> Vec<String> {
        let application = Some(&self.application).filter(|file| file.ends_with(".jar"));
        let groups: [Vec<&String>; 2] = [
            application.into_iter().chain(&self.jars).collect(),
            self.files.iter().chain(&self.py_files).chain(&self.archives).collect(),
        ];
        let mut clashes = Vec::new();
        for group in groups {
            let mut by_name: BTreeMap<String, &str> = BTreeMap::new();
            for file in group {
                let name = plain(file).rsplit('/').next().unwrap_or_default().to_owned();
                match by_name.insert(name.clone(), plain(file)) {
                    Some(other) if other != plain(file) => clashes.push(format!(
                        "{other} and {} have the same name, and Spark puts both into one folder of the executor: rename one",
                        plain(file)
                    )),
                    _ => {}
                }
            }
        }
        clashes
    }

    /// The application's properties in Java's format.
    pub fn conf_text(&self) -> String {
        format!("{}\n{}", self.properties, properties::write(&self.conf))
    }

    /// The application's settings, which take precedence over those of the cluster.
    pub fn resource_request(&self, cluster: &str) -> ResourceRequest {
        ResourceRequest {
            executor_memory: self
                .property_or(cluster, EXECUTOR_MEMORY)
                .and_then(|text| memory(&text)),
            executor_cores: self
                .property_or(cluster, EXECUTOR_CORES)
                .and_then(|text| text.trim().parse().ok()),
        }
    }

    /// The heap of the driver's JVM, by the application's setting, the cluster's, or Spark's default.
    pub fn driver_memory(&self, cluster: &str) -> Memory {
        let set = self.property_or(cluster, DRIVER_MEMORY);
        set.and_then(|text| memory(&text)).unwrap_or(DEFAULT_DRIVER_MEMORY)
    }

    /// The cores of each executor, if they must differ from the cluster's configuration: with more cores than the job may
    /// use, by itself or by the cluster's default, it would get no executor, and with larger heaps cores would stay unused.
    pub fn fitting_cores(&self, cluster: &str, workers: &WorkersSummary, default_cores: Option<u32>) -> Option<u32> {
        if self.property(EXECUTOR_CORES).is_some() {
            return None;
        }
        let conf = properties::parse(cluster);
        let usual: u32 = conf.get(EXECUTOR_CORES)?.parse().ok()?;
        let usual_heap = conf.get(EXECUTOR_MEMORY).and_then(|text| memory(text))?;
        let heap = self.property(EXECUTOR_MEMORY).and_then(|text| memory(&text));
        let most = self.property(CORES_MAX).and_then(|text| text.trim().parse().ok());
        let most = most.or(default_cores);
        let fitting = match heap.map(|heap| u32::try_from(workers.memory_mib / heap.mib().max(1)).unwrap_or(u32::MAX)) {
            Some(executors) if heap > Some(usual_heap) && executors > 0 => {
                caps::cores_for(workers.cores, workers.cores, executors)
            }
            _ => usual,
        };
        let cores = fitting.min(most.unwrap_or(u32::MAX)).max(1);
        (cores != usual).then_some(cores)
    }

    /// A property, from either source.
    pub fn property(&self, key: &str) -> Option<String> {
        let value = self.conf.get(key).cloned();
        value.or_else(|| properties::parse(&self.properties).remove(key))
    }

    /// A property, from either source or from the cluster's configuration.
    fn property_or(&self, cluster: &str, key: &str) -> Option<String> {
        self.property(key).or_else(|| properties::parse(cluster).remove(key))
    }
}

impl Job {
    /// The options of spark-submit that say which packages the application needs, and where they are; none if it needs none.
    pub fn package_options(&self) -> Vec<String> {
        let packages = self.property("spark.jars.packages");
        if self.packages.is_empty() && packages.is_none() {
            return vec![];
        }
        let lists = [("--packages", &self.packages), ("--repositories", &self.repositories)];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        let mut options: Vec<_> = lists
            .flat_map(|(option, list)| [option.to_owned(), list.join(",")])
            .collect();
        for key in ["packages", "excludes", "repositories", "ivy", "ivySettings"].map(|key| format!("spark.jars.{key}"))
        {
            let value = self.property(&key);
            options.extend(
                value
                    .into_iter()
                    .flat_map(|value| ["--conf".into(), format!("{key}={value}")]),
            );
        }
        options
    }
}

impl CheckedJob {
    /// The arguments of spark-submit. `place` returns the path of a sent file.
    pub fn arguments(&self, place: impl Fn(&LocalFile) -> String) -> Vec<String> {
        let placed = |file: &String| -> String {
            let known = local(file).and_then(|path| self.files.iter().find(|known| known.path == path));
            match known {
                // The alias under which an archive is unpacked stays.
                Some(known) => match file.split_once('#') {
                    Some((_, alias)) => format!("{}#{alias}", place(known)),
                    None => place(known),
                },
                None => file.clone(),
            }
        };
        let mut arguments = Vec::new();
        let files = self.job.lists().into_iter();
        let files = files.map(|(flag, files)| (flag, files.iter().map(placed).collect()));
        let names: [(_, Vec<_>); 2] = [
            ("--packages", self.job.packages.clone()),
            ("--repositories", self.job.repositories.clone()),
        ];
        for (flag, values) in files.chain(names).filter(|(_, values)| !values.is_empty()) {
            arguments.extend([flag.to_owned(), values.join(",")]);
        }
        if let Some(class) = &self.job.class {
            arguments.extend(["--class".to_owned(), class.clone()]);
        }
        arguments.push(placed(&self.job.application));
        arguments.extend(self.job.arguments.clone());
        arguments
    }
}

/// The path of a file on this machine; `None` for a URI that Spark fetches itself.
fn local(file: &str) -> Option<PathBuf> {
    let file = plain(file);
    match file.split_once(':') {
        Some(("file", path)) => Some(PathBuf::from("/").join(path.trim_start_matches('/'))),
        // `local:` is a path in the image.
        Some((scheme, _)) if is_scheme(scheme) => None,
        _ => Some(std::path::absolute(file).unwrap_or_else(|_| PathBuf::from(file))),
    }
}

fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// The path without the alias under which an archive is unpacked.
fn plain(file: &str) -> &str {
    file.split_once('#').map_or(file, |(file, _)| file)
}

fn readable(file: &str) -> Result<(), String> {
    let Some(path) = local(file) else { return Ok(()) };
    let shown = path.display();
    if path.to_string_lossy().contains([',', '\n']) {
        return Err(format!(
            "{shown}: Spark does not support paths with a comma or a line break"
        ));
    }
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(format!("{shown} does not exist")),
        Ok(found) if found.is_dir() => Err(format!(
            "{shown} is a folder, and Spark accepts only files: pack it (`zip -r`) first"
        )),
        Ok(found) if !found.is_file() => Err(format!("{shown} is not a regular file")),
        found => {
            let opened = found.and_then(|_| std::fs::File::open(&path));
            opened
                .map(drop)
                .map_err(|error| format!("{shown} cannot be read: {error}"))
        }
    }
}

/// Parses memory in Spark's notation.
pub fn memory(text: &str) -> Option<Memory> {
    Memory::parse_spark(text).ok()
}

/// Reads the user's properties file.
pub fn read_properties(path: &Path) -> Result<String, Problems> {
    std::fs::read_to_string(path).map_err(|error| Problems {
        file: String::new(),
        list: vec![Problem::flag(
            "--properties-file",
            format!("{} cannot be read: {error}", path.display()),
        )],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        folder
    }

    fn at(folder: &tempfile::TempDir, name: &str) -> String {
        folder.path().join(name).display().to_string()
    }

    #[test]
    fn files_with_the_same_name_get_separate_folders_in_the_arguments() {
        let folder = folder_with(&["app.py", "a/app.py", "b/data.csv", "c.zip"]);
        let job = Job {
            application: at(&folder, "app.py"),
            arguments: vec!["--files".into(), "7".into()],
            py_files: vec![at(&folder, "a/app.py")],
            files: vec![at(&folder, "b/data.csv"), "s3a://bucket/x.csv".into()],
            archives: vec![at(&folder, "c.zip") + "#env"],
            packages: vec!["g:a:1".into()],
            ..Job::default()
        };
        let checked = job.check().unwrap();
        assert_eq!(
            checked.arguments(|file| format!("/d/{}", file.sent_as)),
            [
                "--files",
                "/d/files/1/data.csv,s3a://bucket/x.csv",
                "--py-files",
                "/d/files/2/app.py",
                "--archives",
                "/d/files/3/c.zip#env",
                "--packages",
                "g:a:1",
                "/d/files/0/app.py",
                "--files",
                "7"
            ]
        );
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let folder = folder_with(&["app.py", "a/x.txt", "b/x.txt"]);
        let job = Job {
            application: at(&folder, "nothing.py"),
            files: vec![at(&folder, "a"), at(&folder, "a/x.txt"), at(&folder, "b/x.txt")],
            jars: vec![at(&folder, "none.jar")],
            ..Job::default()
        };
        let problems = job.check().unwrap_err().to_string();
        for part in [
            "APPLICATION: ",
            "nothing.py does not exist\n  help: name a .py or .jar file of this machine",
            "a is a folder",
            "none.jar does not exist",
            "have the same name",
            "4 mistakes",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
        let text = Job {
            application: at(&folder, "a/x.txt"),
            ..Job::default()
        };
        assert!(
            text.check()
                .unwrap_err()
                .to_string()
                .contains("neither a .py nor a .jar")
        );
    }

    #[test]
    fn command_line_settings_take_precedence() {
        let mut job = Job {
            properties: "# mine\nspark.executor.memory 3g\nspark.executor.cores: 2\n".into(),
            ..Job::default()
        };
        let cluster = "spark.executor.memory=512m\n";
        let of = |memory, cores| ResourceRequest {
            executor_memory: Some(Memory::from_mib(memory)),
            executor_cores: cores,
        };
        assert_eq!(Job::default().resource_request(cluster), of(512, None));
        assert_eq!(job.resource_request(cluster), of(3072, Some(2)));
        job.conf.insert("spark.executor.memory".into(), "700".into());
        assert_eq!(job.resource_request(cluster), of(700, Some(2)));
    }

    #[test]
    fn a_drivers_heap_is_that_of_the_job_then_the_cluster_then_spark() {
        let mut job = Job::default();
        let heap = |job: &Job, cluster| job.driver_memory(cluster).mib();
        assert_eq!(heap(&job, ""), 1024);
        assert_eq!(heap(&job, "spark.driver.memory=4g\n"), 4096);
        job.properties = "spark.driver.memory 3g".into();
        assert_eq!(heap(&job, "spark.driver.memory=4g\n"), 3072);
        job.conf.insert(DRIVER_MEMORY.into(), "512m".into());
        assert_eq!(heap(&job, "spark.driver.memory=4g\n"), 512);
    }

    #[test]
    fn executor_cores_fit_the_settings_of_the_job() {
        let cluster = "spark.executor.cores=4\nspark.executor.memory=2798m\n";
        let workers = WorkersSummary {
            count: 2,
            cores: 8,
            memory_mib: 5596,
        };
        let cores = |conf: &[(&str, &str)]| {
            let conf = conf.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let job = Job {
                conf: conf.collect(),
                ..Job::default()
            };
            job.fitting_cores(cluster, &workers, None)
        };
        assert_eq!(cores(&[]), None);
        // With four cores each the job would get no executor.
        assert_eq!(cores(&[(CORES_MAX, "2")]), Some(2));
        assert_eq!(cores(&[(CORES_MAX, "2"), (EXECUTOR_CORES, "1")]), None);
        // One such executor uses a worker's whole memory, so it gets all of its cores.
        assert_eq!(cores(&[(EXECUTOR_MEMORY, "4g")]), Some(8));
        assert_eq!(cores(&[(EXECUTOR_MEMORY, "1g")]), None);
        assert_eq!(Job::default().fitting_cores("", &workers, None), None);
        // Nor with more than a job gets that sets no limit itself.
        let large = Job {
            conf: [(EXECUTOR_MEMORY.to_owned(), "4g".to_owned())].into(),
            ..Job::default()
        };
        assert_eq!(large.fitting_cores(cluster, &workers, Some(6)), Some(6));
        assert_eq!(large.fitting_cores(cluster, &workers, Some(4)), None);
    }
}
