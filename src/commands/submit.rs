//! `sparkha submit`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::PossibleValuesParser;
use futures::FutureExt;

use crate::commands::arguments::Global;
use crate::commands::{bad_flag, heading};
use crate::console::progress::Progress;
use crate::jobs::submit::job::{DRIVER_MEMORY, Job, memory, read_properties};
use crate::jobs::submit::{JobResult, Submission, submit};
use crate::lifecycle::{Error, generations};
use crate::report;
use crate::report::exit_code::ExitCode;
use crate::spec::image::ImageReference;
use crate::spec::quantity::Memory;

/// The property of Spark's log level.
const LOG_LEVEL: &str = "spark.log.level";

/// Run a job: send its files, show its output, and keep its exit code
///
/// The options are those of spark-submit. The driver runs in a pod of the cluster, or with --local as a process on this machine, so that
/// executors can connect to it; sparkha itself needs no Spark. Standard output is the job's, standard error has Spark's log. Ctrl-C ends the job.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  sparkha submit --namespace data -- job.py 20
  sparkha submit etl --py-files lib.zip --files rates.csv --executor-memory 2g -- job.py
  sparkha submit --class org.example.Main --conf spark.sql.shuffle.partitions=8 -- job.jar --input s3a://b/in
  sparkha submit --log-level WARN -- job.py       less of Spark's log
  sparkha submit --detach -- job.py && sparkha jobs
  sparkha submit --local -- job.py")]
pub struct Arguments {
    /// Name of the cluster [default: spark]
    name: Option<String>,
    /// A .py or .jar file, and its arguments
    #[arg(last = true, required = true, value_name = "APPLICATION")]
    application: Vec<String>,
    /// Main class of a jar
    #[arg(long, help_heading = heading::APPLICATION)]
    class: Option<String>,
    /// Name of the application
    #[arg(long = "name", value_name = "APP", help_heading = heading::APPLICATION)]
    app: Option<String>,
    /// Python dependencies: .py, .zip or .egg files
    #[arg(long, value_delimiter = ',', value_name = "FILES", help_heading = heading::APPLICATION)]
    py_files: Vec<String>,
    /// Files for the working directory of each executor
    #[arg(long, value_delimiter = ',', help_heading = heading::APPLICATION)]
    files: Vec<String>,
    /// Jars for the driver and executors
    #[arg(long, value_delimiter = ',', help_heading = heading::APPLICATION)]
    jars: Vec<String>,
    /// Archives that executors unpack; FILE#NAME sets the folder
    #[arg(long, value_delimiter = ',', help_heading = heading::APPLICATION)]
    archives: Vec<String>,
    /// Maven coordinates of jars that the driver downloads
    #[arg(long, value_delimiter = ',', help_heading = heading::APPLICATION)]
    packages: Vec<String>,
    /// Additional Maven repositories for --packages
    #[arg(long, value_delimiter = ',', help_heading = heading::APPLICATION)]
    repositories: Vec<String>,
    /// Set a Spark property; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = property, help_heading = heading::PROPERTIES)]
    conf: Vec<(String, String)>,
    /// Level of Spark's log, such as WARN [default: INFO; with -q ERROR]
    ///
    /// The levels are ALL, TRACE, DEBUG, INFO, WARN, ERROR, FATAL and OFF. The option sets spark.log.level.
    #[arg(long, value_name = "LEVEL", value_parser = log_level(), hide_possible_values = true, ignore_case = true, help_heading = heading::PROPERTIES)]
    log_level: Option<String>,
    /// File with Spark properties
    #[arg(long, value_name = "FILE", help_heading = heading::PROPERTIES)]
    properties_file: Option<PathBuf>,
    /// Memory of the driver's heap [default: the cluster's, or 1g]
    #[arg(long, value_parser = amount, value_name = "SIZE", help_heading = heading::RESOURCES)]
    driver_memory: Option<Memory>,
    /// Cores of the driver
    #[arg(long, default_value_t = 1, value_name = "N", allow_negative_numbers = true, value_parser = super::core_count(), help_heading = heading::RESOURCES)]
    driver_cores: u32,
    /// Memory of each executor's heap
    #[arg(long, value_parser = amount, value_name = "SIZE", help_heading = heading::RESOURCES)]
    executor_memory: Option<Memory>,
    /// Cores of each executor
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::core_count(), help_heading = heading::RESOURCES)]
    executor_cores: Option<u32>,
    /// Cores of all executors together
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::core_count(), help_heading = heading::RESOURCES)]
    total_executor_cores: Option<u32>,
    /// Only client is supported; use --detach instead of cluster
    #[arg(long, default_value = "client", value_name = "MODE", value_parser = ["client", "cluster"], hide_possible_values = true, help_heading = heading::DRIVER)]
    deploy_mode: String,
    /// Image of the driver, with the cluster's Spark and Python versions
    #[arg(long, help_heading = heading::DRIVER)]
    image: Option<ImageReference>,
    /// Print the driver's name, and leave the job running
    #[arg(short, long, help_heading = heading::DRIVER)]
    detach: bool,
    /// Keep the driver's pod and files after its end
    #[arg(long, help_heading = heading::DRIVER)]
    keep: bool,
    /// Wait for capacity even if no worker is large enough
    #[arg(long, help_heading = heading::WAITING)]
    wait: bool,
    /// How long the driver may take to start
    #[arg(long, default_value = "5m", value_parser = super::duration, value_name = "TIME", help_heading = heading::WAITING)]
    timeout: Duration,
}

pub async fn run(global: &Global, arguments: Arguments) -> Result<ExitCode, Error> {
    if arguments.image.is_some() && global.local {
        return Err(bad_flag("--image", "conflicts with --local"));
    }
    let named = arguments.name.clone();
    let started = Instant::now();
    let submission = submission(arguments, global.quiet)?;
    let application = submission.job.job.file_name();
    let progress = Progress::new(global.quiet);
    // On Kubernetes a job does not need the terminal that began it.
    let interrupted = match global.local {
        true => super::interruption()?.left_future(),
        false => super::termination()?.right_future(),
    };
    let platform = super::named_cluster(global, named.as_deref()).await?;
    let serving = generations::for_jobs(platform.clone()).await?;
    if serving.name() != platform.name() {
        progress.done(&format!("New jobs of {} run on {}", platform.name(), serving.name()));
    }
    let outcome = submit(serving.as_ref(), &submission, &report::pass_on, &progress, interrupted).await?;
    match outcome {
        JobResult::Ended { code } => {
            let text = report::jobs::ended(&application, code, started.elapsed());
            match code {
                0 => progress.done(&text),
                _ => progress.failed(&text),
            }
            Ok(ExitCode::Job(code))
        }
        JobResult::Detached { driver } => {
            progress.done(&format!(
                "The job runs; `sparkha jobs` shows it, `sparkha jobs --kill {driver}` ends it"
            ));
            report::print(&format!("{driver}\n"))?;
            Ok(ExitCode::Success)
        }
    }
}

/// Resolves the arguments, and reports all problems with files together.
fn submission(arguments: Arguments, quiet: bool) -> Result<Submission, Error> {
    if arguments.deploy_mode == "cluster" {
        return Err(Error::Usage {
            message: "a standalone master starts drivers itself (--deploy-mode cluster) only through its REST server, which accepts jobs from \
                      anybody and does not work with authentication; it is off"
                .into(),
            help: "use --detach: the driver runs in a pod of the cluster and continues without you".into(),
        });
    }
    let mut conf: BTreeMap<String, String> = arguments.conf.into_iter().collect();
    let cores = |cores: Option<u32>| cores.map(|cores| cores.to_string());
    let given = [
        ("spark.app.name", arguments.app),
        ("spark.executor.memory", arguments.executor_memory.map(Memory::spark)),
        ("spark.executor.cores", cores(arguments.executor_cores)),
        ("spark.cores.max", cores(arguments.total_executor_cores)),
        (DRIVER_MEMORY, arguments.driver_memory.map(Memory::spark)),
        (LOG_LEVEL, arguments.log_level.map(|level| level.to_uppercase())),
    ];
    for (key, value) in given {
        conf.extend(value.map(|value| (key.to_owned(), value)));
    }
    let mut words = arguments.application.into_iter();
    let mut job = Job {
        application: words.next().unwrap_or_default(),
        arguments: words.collect(),
        class: arguments.class,
        py_files: arguments.py_files,
        files: arguments.files,
        jars: arguments.jars,
        archives: arguments.archives,
        packages: arguments.packages,
        repositories: arguments.repositories,
        properties: match &arguments.properties_file {
            Some(path) => read_properties(path)?,
            None => String::new(),
        },
        conf,
    };
    if quiet && job.property(LOG_LEVEL).is_none() {
        job.conf.insert(LOG_LEVEL.into(), "ERROR".into());
    }
    if let Some(text) = job.property(DRIVER_MEMORY)
        && memory(&text).is_none()
    {
        return Err(bad_flag(DRIVER_MEMORY, &format!("`{text}` is not an amount of memory")));
    }
    Ok(Submission {
        job: job.check()?,
        image: arguments.image.map(|image| image.to_string()),
        driver_cores: arguments.driver_cores,
        keep: arguments.keep,
        detach: arguments.detach,
        wait: arguments.wait,
        timeout: arguments.timeout,
    })
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, _)) if !key.starts_with("spark.") => {
            Err(format!("Spark properties begin with `spark.`, but `{key}` does not"))
        }
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err("write it as KEY=VALUE".into()),
    }
}

/// Spark's own levels.
fn log_level() -> PossibleValuesParser {
    ["ALL", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "OFF"].into()
}

fn amount(text: &str) -> Result<Memory, String> {
    memory(text).ok_or_else(|| "write it like 2g or 512m".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct SubmitCommand {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn the_log_level_is_that_of_the_option_then_the_property_then_quiet() {
        let application = tempfile::Builder::new().suffix(".py").tempfile().unwrap();
        let level = |line: &str, quiet| {
            let path = application.path().to_str().unwrap();
            let words = ["submit"]
                .into_iter()
                .chain(line.split_whitespace())
                .chain(["--", path]);
            let submission = submission(SubmitCommand::parse_from(words).arguments, quiet).unwrap();
            submission.job.job.property(LOG_LEVEL)
        };
        assert_eq!(level("", false), None);
        assert_eq!(level("", true).as_deref(), Some("ERROR"));
        assert_eq!(level("--log-level warn", true).as_deref(), Some("WARN"));
        assert_eq!(level("--conf spark.log.level=DEBUG", true).as_deref(), Some("DEBUG"));
        let both = level("--conf spark.log.level=DEBUG --log-level OFF", false);
        assert_eq!(both.as_deref(), Some("OFF"));
        assert!(SubmitCommand::try_parse_from(["submit", "--log-level", "loud", "--", "a.py"]).is_err());
    }
}
