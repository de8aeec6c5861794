//! What a cluster on this machine needs.

use std::path::Path;

use super::{Check, Findings, now, pods, s3};
use crate::jobs::orphans_of;
use crate::lifecycle::Error;
use crate::lifecycle::preflight::OTHER_LOCAL_SPARK;
use crate::lifecycle::preflight::local::{has_event_logs_in_s3, memory_in_use, requested_memory};
use crate::model::error_chain::with_sources;
use crate::platform::local::software::{self, Software};
use crate::platform::local::store::{ClusterDir, DesiredState, make_folder, write_file};
use crate::platform::local::{LocalPlatform, addresses, cgroup, kubelet, limits, machine};
use crate::platform::{Observation, Platform};
use crate::render::inventory::Inventory;
use crate::render::render;
use crate::spec::ClusterSpec;
use crate::spec::version::too_old_spark;
use crate::state::cluster_state;
use crate::state::readiness::NotReady;

/// All checks of an existing cluster.
pub async fn of_cluster(
    platform: &LocalPlatform,
    spec: &ClusterSpec,
    inventory: &Inventory,
) -> Result<Vec<Check>, Error> {
    let facts = platform.facts(Observation::Once).await?;
    let state = cluster_state(platform.namespace().as_str(), inventory, &facts);
    let orphans = orphans_of(platform, facts.pods.clone(), &inventory.cluster.ui_domain).await?;
    let mut findings = Findings::of("cluster");
    for lack in &state.not_ready {
        let hint = match lack {
            NotReady::Unattended => "",
            _ => "`sparkha status` shows its parts, `sparkha logs` their logs",
        };
        findings.fail(lack.to_string(), hint);
    }
    let mut checks = findings.or_ok("in service");
    checks.extend(pods::findings(&facts, &[], now()).or_ok(format!("{} run", facts.pods.len())));
    checks.extend(super::applications(&state));
    checks.extend(super::orphans(&orphans));
    checks.extend(s3::judge(spec, &s3::reports(platform, &facts.pods).await));
    Ok(checks)
}

/// All checks of what a cluster on this machine needs.
pub fn checks(spec: &ClusterSpec, dir: &ClusterDir, spark_home: Option<&Path>) -> Vec<Check> {
    let mut checks = Vec::new();
    let software = match software::find(spark_home, spec.image.name.version()) {
        Ok(software) => {
            let home = software.spark_home.display();
            checks.push(match too_old_spark(&software.spark_version) {
                Some(too_old) => Check::warning("Spark", format!("{too_old}; it is at {home}"), OTHER_LOCAL_SPARK),
                None => Check::ok("Spark", format!("{} at {home}", software.spark_version)),
            });
            checks.push(Check::ok("Java", software.java_version.to_string()));
            Some(software)
        }
        Err(lacks) => {
            for lack in lacks {
                let name = if lack.message.contains("Java") { "Java" } else { "Spark" };
                checks.push(Check::failed(name, lack.message, lack.help));
            }
            None
        }
    };
    let wanted = DesiredState {
        software: software.clone().unwrap_or_default(),
        resources: render(spec).objects,
    };
    checks.push(python(software.as_ref()));
    checks.extend(hadoop_aws(spec, software.as_ref()));
    checks.push(folder(dir));
    checks.extend(memory(&wanted, dir));
    checks.extend(ports(&wanted));
    let cgroups = cgroup::is_permitted();
    checks.push(match cgroups {
        true => Check::ok("control groups", "pods' memory and processors can be limited"),
        false => Check::warning(
            "control groups",
            "pods' memory and processors cannot be limited",
            "run as root to limit them",
        ),
    });
    if software.is_some() {
        let cannot = limits::limits(&wanted, cgroups).into_iter();
        checks.extend(cannot.map(|line| Check::warning("not honoured", line, "")));
    }
    checks
}

/// Whether Spark can read and write with `s3a://`, where the cluster file describes a store.
fn hadoop_aws(spec: &ClusterSpec, software: Option<&Software>) -> Option<Check> {
    let software = software.filter(|_| spec.s3.is_some())?;
    Some(match software.hadoop_aws() {
        Ok(version) => Check::ok("hadoop-aws", version),
        Err(missing) if has_event_logs_in_s3(spec) => Check::failed("hadoop-aws", missing.message, missing.help),
        Err(missing) => {
            let hint = format!("submit jobs with --packages; or {}", missing.help);
            Check::warning("hadoop-aws", missing.message, hint)
        }
    })
}

fn python(software: Option<&Software>) -> Check {
    let version = std::process::Command::new("python3").arg("--version").output();
    let has_pyspark = software.is_none_or(|software| software.python_path().is_some());
    match version {
        Ok(output) if has_pyspark => Check::ok("Python", String::from_utf8_lossy(&output.stdout).trim()),
        Ok(_) => Check::warning("Python", "this Spark has no PySpark", "pass another with --spark-home"),
        Err(_) => Check::warning(
            "Python",
            "python3 was not found: PySpark jobs cannot run",
            "install python3",
        ),
    }
}

fn folder(dir: &ClusterDir) -> Check {
    // The folder above all clusters: a check must not create a cluster's folder.
    let folder = dir.path().ancestors().nth(3).unwrap_or(dir.path());
    let file = folder.join(".doctor");
    let written = make_folder(folder).and_then(|()| write_file(&file, b"x"));
    let _ = std::fs::remove_file(&file);
    match written {
        Ok(()) => Check::ok("state", format!("{} can be written", folder.display())),
        Err(error) => Check::failed("state", with_sources(&error), error.help().unwrap_or_default()),
    }
}

fn memory(wanted: &DesiredState, dir: &ClusterDir) -> Option<Check> {
    let needed = requested_memory(&wanted.resources).saturating_sub(memory_in_use(dir).unwrap_or_default());
    let (_, available) = machine::memory()?;
    let message = format!("{} MiB more needed, {} MiB available", needed.mib(), available.mib());
    Some(match needed <= available {
        true => Check::ok("memory", message),
        false => Check::failed("memory", message, "lower workers.memory or the number of workers"),
    })
}

fn ports(wanted: &DesiredState) -> Vec<Check> {
    let wanted = wanted.sets().iter().flat_map(kubelet::ports_of_set).collect();
    let mut findings = Findings::of("ports");
    for port in addresses::taken_everywhere(&wanted) {
        findings.fail(addresses::taken_message(port), addresses::TAKEN_HELP);
    }
    findings.or_ok("free loopback addresses found")
}
