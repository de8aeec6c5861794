//! ZooKeeper: a full quorum under one leader, followers that keep up, and no queue.

use std::collections::BTreeMap;

use super::facts::{Existing, joined};
use crate::doctor::{Check, Findings};
use crate::model::finding::Finding;
use crate::model::reports::{ZooKeeperMode, ZooKeeperReport};
use crate::render::inventory::ZooKeeperSummary;
use crate::spec::words::{are, counted};
use crate::spec::{ClusterSpec, Recovery};
use crate::state::ZooKeeperState;

const NAME: &str = "ZooKeeper";
/// A follower that lags by more transactions does not keep up: a Spark cluster writes a few for each worker and application.
const LAG: u64 = 100;
/// More requests only wait where a server is overloaded, or its disk slow.
const QUEUE: u64 = 10;

pub fn judge(existing: Option<&Existing>, spec: &ClusterSpec, external: &[Finding]) -> Vec<Check> {
    let servers = match existing.map(|existing| (&existing.state.zookeeper, existing)) {
        Some((ZooKeeperState::Managed { servers }, existing)) => {
            let names: Vec<_> = servers.iter().map(|server| server.pod.name.as_str()).collect();
            return managed(&names, &existing.observed.zookeepers);
        }
        Some((ZooKeeperState::None, _)) => {
            let observed = "not needed: the one master recovers from its own files";
            return vec![Check::ok(NAME, observed)];
        }
        Some((ZooKeeperState::External { servers, .. }, _)) => servers.join(","),
        None => match &spec.recovery {
            Recovery::ExternalZooKeeper(external) => external.servers.join(","),
            Recovery::ManagedZooKeeper(_) | Recovery::FileSystem { .. } => return vec![],
        },
    };
    match existing.map(|existing| &existing.inventory.cluster.zookeeper) {
        // Only the arguments that describe the cluster make sparkha query it.
        Some(ZooKeeperSummary::External { .. }) if !matches!(spec.recovery, Recovery::ExternalZooKeeper(_)) => {
            let why = format!("{servers} is not managed by sparkha");
            vec![Check::skipped(
                NAME,
                why,
                "pass --zookeeper or the cluster's file to check it",
            )]
        }
        _ => {
            let mut findings = Findings::of(NAME);
            findings.add(external);
            findings.or_ok(format!("{servers} answers"))
        }
    }
}

fn managed(names: &[&str], answers: &BTreeMap<String, Result<ZooKeeperReport, String>>) -> Vec<Check> {
    let serving: Vec<_> = answers
        .iter()
        .filter_map(|(name, answer)| Some((name.as_str(), answer.as_ref().ok()?)))
        .collect();
    let with = |mode: ZooKeeperMode| serving.iter().filter(move |(_, server)| server.mode == mode);
    let led = with(ZooKeeperMode::Leader).count() + with(ZooKeeperMode::Standalone).count();
    let mut findings = Findings::of(NAME);
    if serving.len() < names.len() {
        let why: Vec<_> = names
            .iter()
            .filter_map(|name| match answers.get(*name) {
                None => Some(format!("{name}: not running")),
                Some(Err(reason)) => Some(format!("{name}: {reason}")),
                Some(Ok(_)) => None,
            })
            .collect();
        let observed = format!(
            "{} of {} {} in the quorum ({})",
            serving.len(),
            counted(names.len(), "server"),
            are(names.len()),
            joined(&why)
        );
        // With a majority, the cluster works.
        match serving.len() * 2 > names.len() {
            true => findings.warn(
                observed,
                "if one more is lost, no master leads: `sparkha logs zookeeper`",
            ),
            false => findings.fail(observed, "without a majority no master leads: `sparkha logs zookeeper`"),
        }
    }
    if led != 1 && !serving.is_empty() {
        findings.fail(
            format!("{} leading instead of one", counted(led, "server")),
            "they do not reach each other: check their names and port 2888",
        );
    }
    if let Some((_, leader)) = with(ZooKeeperMode::Leader).next() {
        for (name, server) in with(ZooKeeperMode::Follower) {
            // Its epoch is of another election: it follows another leader.
            let epochs = (leader.zxid >> 32, server.zxid >> 32);
            let behind = leader.zxid.saturating_sub(server.zxid);
            if epochs.0 != epochs.1 && behind > 0 || behind > LAG {
                findings.warn(
                    format!("{name} is at {:#x}, and the leader at {:#x}", server.zxid, leader.zxid),
                    "it does not keep up: check its disk, its processor and its network",
                );
            }
        }
    }
    for (name, server) in &serving {
        if server.outstanding > QUEUE {
            findings.warn(
                format!("{} waiting in {name}", counted(server.outstanding, "request")),
                "it is overloaded, or its disk is slow: give it its own disk and processor",
            );
        }
    }
    let followers = with(ZooKeeperMode::Follower).count();
    findings.or_ok(match names.len() {
        1 => "1 server, no request waits".into(),
        _ => format!("1 leader and {followers} followers in step, no request waits"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn answers(servers: &[(Option<ZooKeeperMode>, u64, u64)]) -> BTreeMap<String, Result<ZooKeeperReport, String>> {
        let server = |(at, &(mode, zxid, outstanding)): (usize, &(Option<ZooKeeperMode>, u64, u64))| {
            let server = mode.map(|mode| ZooKeeperReport {
                mode,
                outstanding,
                zxid,
                version: None,
            });
            (format!("z{at}"), server.ok_or_else(|| "in no quorum".to_owned()))
        };
        servers.iter().enumerate().map(server).collect()
    }

    fn statuses(servers: &[(Option<ZooKeeperMode>, u64, u64)]) -> Vec<(Status, String)> {
        let names = ["z0", "z1", "z2"];
        let checks = managed(&names[..servers.len()], &answers(servers));
        checks.into_iter().map(|check| (check.status, check.observed)).collect()
    }

    #[test]
    fn a_quorum_is_one_leader_and_followers_in_step() {
        use ZooKeeperMode::{Follower, Leader, Standalone};
        let (leader, follower) = ((Some(Leader), 0x2_0000_0010, 0), (Some(Follower), 0x2_0000_000f, 1));
        let well = statuses(&[leader, follower, follower]);
        assert_eq!(
            well,
            [(Status::Ok, "1 leader and 2 followers in step, no request waits".into())]
        );
        assert_eq!(statuses(&[(Some(Standalone), 1, 0)])[0].0, Status::Ok);

        let lost = statuses(&[leader, follower, (None, 0, 0)]);
        assert_eq!(
            lost,
            [(
                Status::Warning,
                "2 of 3 servers are in the quorum (z2: in no quorum)".into()
            )]
        );
        assert_eq!(
            statuses(&[(None, 0, 0), (None, 0, 0), (None, 0, 0)])[0].0,
            Status::Failed
        );
        let apart = statuses(&[leader, leader, follower]);
        assert_eq!(apart, [(Status::Failed, "2 servers leading instead of one".into())]);
        let behind = statuses(&[leader, follower, (Some(Follower), 0x1_0000_0400, 0)]);
        assert_eq!(
            behind,
            [(
                Status::Warning,
                "z2 is at 0x100000400, and the leader at 0x200000010".into()
            )]
        );
        let slow = statuses(&[leader, follower, (Some(Follower), 0x2_0000_0010, 50)]);
        assert_eq!(slow, [(Status::Warning, "50 requests waiting in z2".into())]);
    }
}
