//! Masters, workers and applications, as the masters report them.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use super::facts::{Existing, Observed, PodReport, Resolution, joined};
use crate::doctor::{Check, Findings};
use crate::model::labels::Component;
use crate::model::ports::MASTER_PORT;
use crate::model::reports::{MasterReport, MasterStatus, WorkerReport};
use crate::state::readiness::NotReady;
use crate::state::{Facts, pods_of};

pub fn judge(existing: &Existing) -> Vec<Check> {
    let mut checks = masters(existing);
    checks.extend(workers(existing));
    checks.extend(crate::doctor::applications(&existing.state));
    checks.extend(crate::doctor::orphans(&existing.orphans));
    checks
}

fn masters(existing: &Existing) -> Vec<Check> {
    let mut findings = Findings::of("masters");
    for lack in &existing.state.not_ready {
        if let Some((observed, hint)) = of_master(lack, &existing.observed) {
            findings.fail(observed, hint);
        }
    }
    for (pod, report) in &existing.observed.masters {
        let Ok(report) = report else { continue };
        // Workers and drivers use its Service's name, and Spark drops messages to another name.
        let expected = format!("spark://{pod}:{MASTER_PORT}");
        if report.url != expected {
            let observed = format!(
                "{pod} calls itself {}, but is addressed as {expected}: it drops messages of workers and drivers",
                report.url
            );
            let hint = "SPARK_MASTER_HOST must be the name of the master's own Service: leave it to sparkha, in env and sparkConf alike";
            findings.fail(observed, hint);
        }
    }
    let standby = existing.state.masters.len().saturating_sub(1);
    findings.or_ok(format!("1 alive, {standby} standby"))
}

/// What masters lack, and the hint.
fn of_master(lack: &NotReady, facts: &Facts) -> Option<(String, &'static str)> {
    let hint = match lack {
        NotReady::MastersSilent { .. } => {
            let masters = facts.masters.iter();
            let reasons = masters.filter_map(|(pod, report)| Some(format!("{pod}: {}", report.as_ref().err()?)));
            let reasons: Vec<_> = reasons.collect();
            let observed = match reasons.is_empty() {
                true => lack.to_string(),
                false => format!("{lack} ({})", joined(&reasons)),
            };
            return Some((observed, "see `sparkha logs masters`"));
        }
        NotReady::NoLeader { recovering: Some(_) } => "recovery takes up to spark.deploy.recoveryTimeout; check again",
        NotReady::NoLeader { recovering: None } => {
            "an election needs ZooKeeper's quorum: see its check, and `sparkha logs masters`"
        }
        NotReady::SeveralLeaders { .. } => {
            "they use no or different ZooKeepers or directories: compare spark.deploy.zookeeper.url and .dir of all masters"
        }
        _ => return None,
    };
    Some((lack.to_string(), hint))
}

fn workers(existing: &Existing) -> Vec<Check> {
    const NAME: &str = "workers";
    let mut findings = Findings::of(NAME);
    for lack in &existing.state.not_ready {
        let hint = match lack {
            NotReady::Workers { .. } => {
                "`sparkha logs workers` shows why they do not register: names, networks, another secret"
            }
            NotReady::WorkerSize { .. } => {
                "SPARK_WORKER_CORES or SPARK_WORKER_MEMORY is set, or it has no limits and offers its whole node"
            }
            _ => continue,
        };
        findings.fail(lack.to_string(), hint);
    }
    if let Some(leader) = leader(&existing.observed) {
        let pods: Vec<_> = pods_of(&existing.observed.pods, Component::Worker).collect();
        let alive = leader.workers.iter().filter(|worker| worker.state == "ALIVE");
        let advertised = alive.filter_map(|worker| advertised(NAME, worker, &pods, &existing.probes));
        findings.found.extend(advertised);
    }
    let registration = existing.state.workers.registration();
    findings.or_ok(format!("{registration}, with the configured resources"))
}

fn leader(facts: &Facts) -> Option<&MasterReport> {
    let reports = facts.masters.values().filter_map(|report| report.as_ref().ok());
    reports.into_iter().find(|report| report.status == MasterStatus::Alive)
}

/// A worker's executors are reached under the worker's own name: it must resolve to the same address everywhere.
fn advertised(
    name: &'static str,
    worker: &WorkerReport,
    pods: &[&Pod],
    probes: &Observed<Vec<PodReport>>,
) -> Option<Check> {
    let host = &worker.host;
    let hint = "SPARK_LOCAL_HOSTNAME must be resolvable in all pods: sparkha sets it to the pod's address";
    if host.parse::<IpAddr>().is_ok() {
        let mut addresses = pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.as_deref());
        return (!addresses.any(|address| address == host)).then(|| {
            let observed = format!("a worker calls itself {host}, which is not the address of any worker's pod");
            Check::failed(name, observed, hint)
        });
    }
    let asked: Vec<_> = probes
        .iter()
        .flatten()
        .flat_map(|answer| answer.names.iter().map(move |name| (answer.pod.as_str(), name)))
        // Its own pod resolves it by /etc/hosts.
        .filter(|(pod, name)| name.name == *host && pod != host)
        .collect();
    if asked.is_empty() {
        let observed = format!("a worker calls itself {host}; whether others can resolve it was not checked");
        return Some(Check::warning(name, observed, hint));
    }
    let (deaf, _) = asked.iter().find(|(_, name)| name.outcome != Resolution::Known)?;
    let observed =
        format!("a worker calls itself {host}, which {deaf} cannot resolve: jobs do not reach its executors");
    Some(Check::failed(name, observed, hint))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::facts::Lookup;
    use super::*;
    use crate::doctor::Status;

    fn worker(host: &str) -> WorkerReport {
        serde_json::from_value(json!({
            "id": "w", "host": host, "webuiaddress": "", "cores": 1, "coresused": 0, "memory": 1, "memoryused": 0, "state": "ALIVE",
        }))
        .unwrap()
    }

    #[test]
    fn a_worker_name_that_only_its_pod_resolves_is_reported() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "w"}, "status": {"podIP": "10.0.0.1"}})).unwrap();
        let pods = [&pod];
        let answer = |pod: &str, outcome| PodReport {
            pod: pod.into(),
            names: vec![Lookup {
                name: "spark-worker-0".into(),
                outcome,
            }],
            ..PodReport::default()
        };
        let status = |host: &str, probes: &Observed<Vec<PodReport>>| {
            advertised("workers", &worker(host), &pods, probes).map(|check| check.status)
        };
        let nobody = Err("not allowed".into());
        assert_eq!(status("10.0.0.1", &nobody), None);
        assert_eq!(status("10.0.0.2", &nobody), Some(Status::Failed));
        assert_eq!(status("spark-worker-0", &nobody), Some(Status::Warning));
        let only_itself = Ok(vec![
            answer("spark-worker-0", Resolution::Known),
            answer("m", Resolution::Unknown),
        ]);
        assert_eq!(status("spark-worker-0", &only_itself), Some(Status::Failed));
        let everybody = Ok(vec![answer("m", Resolution::Known)]);
        assert_eq!(status("spark-worker-0", &everybody), None);
    }
}
