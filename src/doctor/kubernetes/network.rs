//! Whether pods reach each other, at their own addresses and through Services, and themselves through their own Service (the hairpin, which some
//! networks do not support).

use super::facts::{ConnectTarget, Observed, PodReport, Port, Reachability, joined};
use crate::doctor::Check;

const PODS: &str = "pod network";
const SERVICES: &str = "Service network";
const HAIRPIN: &str = "hairpin";
/// What a check of the pods' reports lacks without them.
pub const GRANT: &str = "grant `pods/exec` to check from the pods";

pub fn judge(probes: &Observed<Vec<PodReport>>) -> Vec<Check> {
    let reports = match probes {
        Ok(reports) => reports,
        Err(why) => {
            return [PODS, SERVICES, HAIRPIN]
                .map(|name| Check::skipped(name, why, GRANT))
                .into();
        }
    };
    let attempts: Vec<_> = reports
        .iter()
        .flat_map(|report| report.ports.iter().map(move |port| (report.pod.as_str(), port)))
        .collect();
    let group = |name, selects: &dyn Fn(&str, &ConnectTarget) -> bool, all_well: &str, hint: &str| {
        let of_group = attempts.iter().filter(|(from, port)| selects(from, &port.target));
        group(name, &of_group.copied().collect::<Vec<_>>(), all_well, hint)
    };
    // A master's Service has its pod's name.
    let is_hairpin = |from: &str, to: &ConnectTarget| to.is_service && from == to.name;
    vec![
        group(
            PODS,
            &|_, to| !to.is_service,
            "pods reach each other",
            "check the network plugin on the pods' nodes, firewalls between nodes, and NetworkPolicies; `refused` means that nothing listens there",
        ),
        group(
            SERVICES,
            &|from, to| to.is_service && !is_hairpin(from, to),
            "pods reach masters through their Services",
            "check kube-proxy on the node, its bridge-nf-call-iptables, and the Service's ports",
        ),
        group(
            HAIRPIN,
            &is_hairpin,
            "masters reach themselves through their own Services",
            "the network does not return a pod's traffic to it: set hairpinMode (CNI bridge) or the kubelet's hairpin mode; sparkha's own \
             daemons do not need it, but drivers in a master's pod do",
        ),
    ]
}

/// Judges connections of one kind, each with the pod that attempted it.
fn group(name: &'static str, attempts: &[(&str, &Port)], all_well: &str, hint: &str) -> Check {
    if attempts.is_empty() {
        return Check::skipped(name, "no two pods could be checked", "");
    }
    let failed = attempts.iter().filter(|(_, port)| port.outcome != Reachability::Open);
    let told = |(from, Port { target, outcome }): &(&str, &Port)| {
        let what = if target.is_service { "Service " } else { "" };
        let (name, address, port) = (&target.name, &target.address, target.port);
        format!("{from} does not reach {what}{name} at {address}:{port} ({outcome})")
    };
    let failed: Vec<_> = failed.map(told).collect();
    match failed.is_empty() {
        true => Check::ok(name, format!("{all_well} ({} connections)", attempts.len())),
        false => Check::failed(name, joined(&failed), hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn port(name: &str, is_service: bool, outcome: Reachability) -> Port {
        Port {
            target: ConnectTarget {
                name: name.into(),
                is_service,
                address: "10.0.0.1".into(),
                port: 7077,
            },
            outcome,
        }
    }

    #[test]
    fn a_failed_hairpin_does_not_fail_the_pod_network() {
        let master = PodReport {
            pod: "spark-master-0".into(),
            ports: vec![
                port("spark-worker-0", false, Reachability::Open),
                port("spark-master-0", true, Reachability::Silent),
            ],
            ..PodReport::default()
        };
        let worker = PodReport {
            pod: "spark-worker-0".into(),
            ports: vec![port("spark-master-0", true, Reachability::Open)],
            ..PodReport::default()
        };
        let statuses: Vec<_> = judge(&Ok(vec![master, worker]))
            .iter()
            .map(|check| (check.name, check.status))
            .collect();
        assert_eq!(
            statuses,
            [(PODS, Status::Ok), (SERVICES, Status::Ok), (HAIRPIN, Status::Failed)]
        );
    }

    #[test]
    fn unreachable_services_are_reported_apart_from_pods() {
        let worker = PodReport {
            pod: "spark-worker-0".into(),
            ports: vec![
                port("spark-master-0", false, Reachability::Open),
                port("spark-master-0", true, Reachability::Refused),
            ],
            ..PodReport::default()
        };
        let checks = judge(&Ok(vec![worker]));
        assert_eq!(checks[0].status, Status::Ok);
        assert_eq!(
            checks[1].observed,
            "spark-worker-0 does not reach Service spark-master-0 at 10.0.0.1:7077 (refused)"
        );
        assert_eq!(checks[2].status, Status::Skipped);
    }
}
