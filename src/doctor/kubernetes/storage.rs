//! Volumes: access modes that a disk does not support, and claims that wait for a volume.

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim};
use kube::ResourceExt;

use super::facts::Observed;
use crate::doctor::{Check, Findings};
use crate::lifecycle::preflight::capacity::ClaimRequest;
use crate::model::finding::Finding;
use crate::spec::words::counted;

const NAME: &str = "storage";

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// The request of a waiting claim to its storage class. The empty class stands for volumes made by hand.
pub fn claim_request(claim: &PersistentVolumeClaim) -> Option<ClaimRequest> {
    let spec = claim.spec.as_ref()?;
    let class = spec.storage_class_name.clone();
    (!is_bound(claim) && class.as_deref() != Some("")).then(|| ClaimRequest {
        subject: format!("claim {}", claim.name_any()),
        class,
        access_modes: spec.access_modes.clone().unwrap_or_default(),
    })
}

pub fn judge(
    impossible: &Observed<Vec<Finding>>,
    claims: &Observed<Vec<PersistentVolumeClaim>>,
    events: &[Event],
) -> Vec<Check> {
    let claims = match claims {
        Ok(claims) => claims,
        Err(why) => return vec![Check::skipped(NAME, why, "")],
    };
    let mut findings = Findings::of(NAME);
    findings.add(impossible.as_deref().unwrap_or_default());
    let waiting: Vec<_> = claims.iter().filter(|claim| !is_bound(claim)).collect();
    for claim in &waiting {
        let name = claim.name_any();
        // It has been reported, and more clearly.
        if findings.mention(&format!("claim {name}:")) {
            continue;
        }
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        let phase = phase.unwrap_or_default();
        let reason = newest_message(&name, events).unwrap_or("no event says why");
        if reason.contains("waiting for first consumer") {
            // It is provisioned when a pod uses it.
            continue;
        }
        let observed = format!("claim {name} is {phase}: {reason}");
        let hint = "check storageClassName, accessMode and size; without a provisioner, create the volume yourself";
        findings.fail(observed, hint);
    }
    let all = counted(claims.len(), "claim");
    findings.or_ok(match (impossible, claims.len()) {
        (Err(why), _) => format!("{all} bound; storage classes could not be read: {why}"),
        (Ok(_), 0) => "no claim waits for a volume".into(),
        (Ok(_), count) => format!("{} of {all} bound", count - waiting.len()),
    })
}

/// The newest event about a claim.
fn newest_message<'a>(claim: &str, events: &'a [Event]) -> Option<&'a str> {
    let about = events.iter().filter(|event| {
        event.involved_object.kind.as_deref() == Some("PersistentVolumeClaim")
            && event.involved_object.name.as_deref() == Some(claim)
    });
    let newest = about.max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0))?;
    newest.message.as_deref()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::Status;
    use crate::lifecycle::preflight::capacity::wrong_claims;

    fn claim(name: &str, class: &str, mode: &str, phase: &str) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"storageClassName": class, "accessModes": [mode]},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn a_shared_disk_and_a_waiting_claim_are_reported_once_each() {
        let disk = serde_json::from_value(json!({"metadata": {"name": "disk"}, "provisioner": "kubernetes.io/gce-pd"}));
        let many = claim("many", "disk", "ReadWriteMany", "Pending");
        let findings = wrong_claims(&[claim_request(&many).unwrap()], &[disk.unwrap()]);
        let by_hand = claim("by-hand", "", "ReadWriteOnce", "Pending");
        assert!(claim_request(&by_hand).is_none());
        let event = serde_json::from_value(json!({
            "metadata": {}, "message": "no persistent volumes available for this claim and no storage class is set",
            "involvedObject": {"kind": "PersistentVolumeClaim", "name": "by-hand"},
        }));
        let claims = Ok(vec![many, by_hand, claim("good", "x", "ReadWriteOnce", "Bound")]);
        let checks = judge(&Ok(findings), &claims, &[event.unwrap()]);
        let observed: Vec<_> = checks
            .iter()
            .map(|check| (check.status, check.observed.as_str()))
            .collect();
        assert_eq!(
            observed,
            [
                (
                    Status::Failed,
                    "claim many: storage class disk (kubernetes.io/gce-pd) provisions disks, and a disk cannot be ReadWriteMany"
                ),
                (
                    Status::Failed,
                    "claim by-hand is Pending: no persistent volumes available for this claim and no storage class is set"
                ),
            ]
        );
    }
}
