//! What a cluster on this machine needs.

use std::path::Path;

use super::Check;
use super::Verdict::{Fail, Pass, Warn};
use crate::platform::local::software::{self, Software, version_in_image};
use crate::platform::local::store::{ClusterDir, Wanted, make_folder, write_file};
use crate::platform::local::{addresses, cgroup, kubelet, limits, machine};
use crate::render::render;
use crate::spec::ClusterSpec;
use crate::steps::local::create::{needed, running};

/// All checks for this cluster.
pub fn checks(spec: &ClusterSpec, dir: &ClusterDir, spark_home: Option<&Path>) -> Vec<Check> {
    let mut checks = Vec::new();
    let software = match software::find(spark_home, version_in_image(&spec.image.name)) {
        Ok(software) => {
            let Software {
                spark_home,
                spark_version,
                java_version,
                ..
            } = &software;
            checks.push(Check::new(
                "Spark",
                Pass,
                format!("{spark_version} at {}", spark_home.display()),
                "",
            ));
            checks.push(Check::new("Java", Pass, java_version.to_string(), ""));
            Some(software)
        }
        Err(lacks) => {
            let name = |message: &str| if message.contains("Java") { "Java" } else { "Spark" };
            checks.extend(
                lacks
                    .into_iter()
                    .map(|lack| Check::new(name(&lack.message), Fail, lack.message, lack.help)),
            );
            None
        }
    };
    let wanted = Wanted {
        software: software.clone().unwrap_or_default(),
        resources: render(spec),
    };
    checks.push(python(software.as_ref()));
    checks.push(folder(dir));
    checks.extend(memory(&wanted, dir));
    checks.extend(ports(&wanted));
    let cgroups = cgroup::is_permitted();
    checks.push(match cgroups {
        true => Check::new("control groups", Pass, "pods' memory and processors can be limited", ""),
        false => Check::new(
            "control groups",
            Warn,
            "pods' memory and processors cannot be limited",
            "run as root, or go without",
        ),
    });
    let cannot = limits::limits(&wanted, cgroups)
        .into_iter()
        .filter(|_| software.is_some());
    checks.extend(cannot.map(|line| Check::new("not honoured", Warn, line, "")));
    checks
}

fn python(software: Option<&Software>) -> Check {
    let version = std::process::Command::new("python3").arg("--version").output();
    let has_pyspark = software.is_none_or(|software| software.python_path().is_some());
    match version {
        Ok(output) if has_pyspark => Check::new("Python", Pass, String::from_utf8_lossy(&output.stdout).trim(), ""),
        Ok(_) => Check::new(
            "Python",
            Warn,
            "this Spark brings no PySpark",
            "name another with --spark-home",
        ),
        Err(_) => Check::new(
            "Python",
            Warn,
            "there is no python3: PySpark jobs cannot run",
            "install python3",
        ),
    }
}

fn folder(dir: &ClusterDir) -> Check {
    // The folder above all clusters: a check leaves no cluster's folder behind.
    let folder = dir.path().ancestors().nth(3).unwrap_or(dir.path());
    let file = folder.join(".doctor");
    let written = make_folder(folder).and_then(|()| write_file(&file, b"x"));
    let _ = std::fs::remove_file(&file);
    match written {
        Ok(()) => Check::new("state", Pass, format!("{} can be written", folder.display()), ""),
        Err(error) => Check::new("state", Fail, error.to_string(), error.help().unwrap_or_default()),
    }
}

fn memory(wanted: &Wanted, dir: &ClusterDir) -> Option<Check> {
    let needed = needed(&wanted.resources).saturating_sub(running(dir).unwrap_or_default());
    let (_, available) = machine::memory()?;
    let message = format!(
        "{} MiB needed beside what runs, {} MiB available",
        needed.mib(),
        available.mib()
    );
    Some(match needed <= available {
        true => Check::new("memory", Pass, message, ""),
        false => Check::new("memory", Fail, message, "lower workers.memory or the number of workers"),
    })
}

fn ports(wanted: &Wanted) -> Vec<Check> {
    let wanted = wanted.sets().iter().flat_map(kubelet::ports_of_set).collect();
    let busy: Vec<_> = addresses::taken_everywhere(&wanted)
        .into_iter()
        .map(|port| Check::new("ports", Fail, addresses::taken_message(port), addresses::TAKEN_HELP))
        .collect();
    if busy.is_empty() {
        vec![Check::new("ports", Pass, "free loopback addresses found", "")]
    } else {
        busy
    }
}
