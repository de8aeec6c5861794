//! The API server, the namespace, and your permissions there.

use super::facts::{ApiServer, Observed};
use crate::doctor::{Check, Findings};
use crate::lifecycle::preflight::kubernetes::too_old;
use crate::model::finding::Finding;
use crate::platform::kubernetes::Error;
use crate::platform::kubernetes::namespace::NamespaceState;

const NAME: &str = "API server";

pub fn unreachable(error: &Error) -> Check {
    Check::failed(NAME, error.to_string(), error.help().unwrap_or_default())
}

pub fn judge(server: &ApiServer) -> Check {
    match too_old(&server.version) {
        Some(finding) => Check::warning(NAME, finding.message, finding.help),
        None => Check::ok(NAME, format!("{} at {}", server.version.git_version, server.address)),
    }
}

pub fn namespace(state: NamespaceState, namespace: &str) -> Check {
    let observed = match state {
        NamespaceState::Missing => format!("{namespace} does not exist yet: create makes it"),
        NamespaceState::Ours | NamespaceState::Others => format!("{namespace} exists"),
    };
    Check::ok("namespace", observed)
}

pub fn permissions(missing: &Observed<Vec<Finding>>) -> Vec<Check> {
    let mut findings = Findings::of("permissions");
    match missing {
        Ok(missing) => {
            findings.add(missing);
            findings.or_ok("you have the permissions for create, status and teardown")
        }
        Err(why) => findings.or_skipped(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn an_old_server_is_a_warning() {
        let server = |minor: &str| ApiServer {
            address: "https://x".into(),
            version: k8s_openapi::apimachinery::pkg::version::Info {
                major: "1".into(),
                minor: minor.into(),
                git_version: format!("v1.{minor}.0"),
                ..Default::default()
            },
            clock: None,
        };
        assert_eq!(judge(&server("19")).status, Status::Warning);
        assert_eq!(judge(&server("20+")).status, Status::Ok);
        assert_eq!(judge(&server("37")), Check::ok(NAME, "v1.37.0 at https://x"));
    }
}
