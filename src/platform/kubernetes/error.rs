//! Errors of requests to an API server, classified by what the user can do about them.

use std::time::Duration;

use kube::client::AuthError;
use kube::config::ExecConfig;
use kube::core::Status;

use super::ApiEndpoint;

/// A request failed, or no client could be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a usable kubeconfig nor a service account was found.
    #[error("{reason}")]
    NoCluster { reason: String },
    /// The kubeconfig names credentials that cannot be used.
    #[error("failed to get credentials: {reason}")]
    Credentials { reason: String, help: String },
    /// The API server does not know the user.
    #[error("failed to {action}: the API server rejected these credentials (401 Unauthorized)")]
    Unauthorized { action: String },
    #[error("the proxy in {place} cannot be used")]
    Proxy { place: &'static str },
    #[error("failed to reach the API server {server}: {reason}")]
    Unreachable { server: String, reason: String },
    #[error("failed to {action}: no answer from the API server {server} within {} s", after.as_secs())]
    TimedOut {
        action: String,
        server: String,
        after: Duration,
    },
    #[error("failed to {action}: not allowed: {message}")]
    Forbidden { action: String, message: String },
    #[error("failed to {action}: it has fields that belong to another field manager: {}", owners.join("; "))]
    Conflict { action: String, owners: Vec<String> },
    #[error("failed to {action}: {reason}; nothing more was changed")]
    LockLost { action: String, reason: String },
    #[error("failed to {action}: {message}")]
    Rejected { action: String, code: u16, message: String },
    #[error("failed to {action}: {message}")]
    Protocol { action: String, message: String },
}

impl Error {
    /// The remedy, if there is one.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Error::NoCluster { .. } => "pass --kubeconfig FILE and --context NAME, or set KUBECONFIG; without a Kubernetes cluster, \
                 add --local to use this machine, or print the objects with `sparkha render`"
                .into(),
            Error::Credentials { help, .. } => help.clone(),
            Error::Unauthorized { .. } => {
                "log in again, or check the user of this context in your kubeconfig: kubectl is refused in the same way".into()
            }
            Error::Proxy { .. } => "write it as http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT, with USER:PASSWORD@ before \
                 HOST if the proxy asks for them"
                .into(),
            Error::Unreachable { .. } => {
                "check the server's address in your kubeconfig (`kubectl cluster-info`), VPN and proxy".into()
            }
            Error::TimedOut { .. } => "run the same command again: it continues where it stopped".into(),
            Error::Forbidden { .. } => {
                "ask for the Roles that `sparkha render --role` prints, bound in this namespace".into()
            }
            Error::Conflict { .. } => {
                "take the fields back with --force-conflicts, or let the other manager release them".into()
            }
            Error::LockLost { .. } => {
                "a lock expires when a run is paused or disconnected for 15 s; `sparkha status` shows the cluster's current state".into()
            }
            Error::Rejected { code: 422, .. } => {
                "fields that cannot be changed in place need `sparkha teardown` and `sparkha create`".into()
            }
            Error::Rejected {
                code: 429 | 500..=504, ..
            } => "the API server is overloaded or restarting: run the same command again, it continues where it stopped".into(),
            Error::Rejected { message, .. } if message.contains("exceeded quota") => {
                "ask for a larger quota, or lower counts and resources (`kubectl describe quota`)".into()
            }
            Error::Rejected { message, .. } if message.contains("admission webhook") => {
                "a policy of this cluster rejects it: the message above says what to change, or ask the policy's owners for an exception".into()
            }
            Error::Rejected { .. } | Error::Protocol { .. } => return None,
        })
    }

    /// Whether a retry may help: on overload, restarts and broken connections.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable { .. } => true,
            Error::Rejected { code, .. } => matches!(code, 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Classifies a client error by its remedy.
    pub(super) fn from_kube(error: kube::Error, action: &str, server: &ApiEndpoint) -> Error {
        if let Some(refused) = auth_error(&error) {
            return Error::from_auth(refused, server.plugin.as_ref());
        }
        match error {
            kube::Error::Api(status) => Error::from_status(*status, action),
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) | kube::Error::UpgradeConnection(_) => {
                Error::Protocol {
                    action: action.to_owned(),
                    message: chain(&error),
                }
            }
            other => Error::Unreachable {
                server: server.to_string(),
                reason: innermost(&other),
            },
        }
    }

    /// Errors of a plugin leave out what it printed, and its environment: both may hold secrets.
    fn from_auth(error: &AuthError, plugin: Option<&CredentialPlugin>) -> Error {
        let Some(plugin) = plugin else {
            return Error::Credentials {
                reason: format!("those in the kubeconfig cannot be used: {}", chain(error)),
                help: "check the user of this context in your kubeconfig".into(),
            };
        };
        let name = &plugin.command;
        let (reason, help) = match error {
            AuthError::AuthExecStart(source) => (
                format!("failed to start the plugin {name}: {source}"),
                plugin
                    .install_hint
                    .as_deref()
                    .unwrap_or("install it, or put it on the PATH"),
            ),
            AuthError::AuthExecRun { out, .. } => {
                let said = String::from_utf8_lossy(&out.stderr);
                let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
                let said = last.map(|line| format!(": {line}")).unwrap_or_default();
                let help = "log in again with the program that the plugin belongs to: kubectl fails in the same way";
                (format!("the plugin {name} failed ({}){said}", out.status), help)
            }
            AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => (
                format!("the plugin {name} printed no ExecCredential with a status"),
                "check its command and arguments in the kubeconfig (users, user, exec)",
            ),
            other => (
                format!("the plugin {name}: {}", chain(other)),
                "check it in the kubeconfig (users, user, exec)",
            ),
        };
        Error::Credentials {
            reason,
            help: help.to_owned(),
        }
    }

    fn from_status(status: Status, action: &str) -> Error {
        let action = action.to_owned();
        let owners = conflicting_owners(&status);
        if !owners.is_empty() {
            return Error::Conflict { action, owners };
        }
        // An exceeded quota, Pod Security and admission webhooks also answer 403, but no Role helps against them.
        let by_admission = status.message.contains("exceeded quota")
            || status.message.contains("violates PodSecurity")
            || status.message.contains("admission webhook");
        match status.code {
            401 => Error::Unauthorized { action },
            403 if !by_admission => Error::Forbidden {
                action,
                message: status.message,
            },
            code => Error::Rejected {
                action,
                code,
                message: status.message,
            },
        }
    }
}

/// A program that the kubeconfig names to print credentials.
#[derive(Clone, Debug, Default)]
pub(super) struct CredentialPlugin {
    command: String,
    install_hint: Option<String>,
}

impl From<&ExecConfig> for CredentialPlugin {
    fn from(config: &ExecConfig) -> Self {
        Self {
            command: config.command.clone().unwrap_or_default(),
            install_hint: config.install_hint.clone().map(|hint| hint.trim().to_owned()),
        }
    }
}

/// The error of credentials behind an error: one from the first request, or from a later renewal.
fn auth_error(error: &kube::Error) -> Option<&AuthError> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The owners of conflicting fields, from the causes of a server-side apply conflict, e.g. `.spec.replicas (kubectl-scale)`.
fn conflicting_owners(status: &Status) -> Vec<String> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| {
            let manager = cause.message.trim_start_matches("conflict with ");
            format!("{} ({manager})", cause.field)
        })
        .collect()
}

/// An error and its sources on one line, each part once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let part = cause.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = cause.source();
    }
    text
}

/// The innermost source: hyper's outer errors say only "client error (Connect)".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: serde_json::Value) -> Box<Status> {
        Box::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_conflict_names_managers_and_fields() {
        let error = kube::Error::Api(status(serde_json::json!({
            "code": 409, "reason": "Conflict", "message": "Apply failed with 1 conflict",
            "details": {"causes": [{
                "reason": "FieldManagerConflict",
                "message": "conflict with \"kubectl-scale\" using apps/v1",
                "field": ".spec.replicas",
            }]},
        })));
        let error = Error::from_kube(error, "apply StatefulSet spark-worker", &ApiEndpoint::default());
        assert_eq!(
            error.to_string(),
            "failed to apply StatefulSet spark-worker: it has fields that belong to another field manager: \
             .spec.replicas (\"kubectl-scale\" using apps/v1)"
        );
    }

    #[test]
    fn an_exceeded_quota_is_not_reported_as_a_missing_role() {
        let error = kube::Error::Api(status(serde_json::json!({
            "code": 403, "reason": "Forbidden", "message": "services \"x\" is forbidden: exceeded quota: q",
        })));
        assert!(matches!(
            Error::from_kube(error, "apply Service x", &ApiEndpoint::default()),
            Error::Rejected { code: 403, .. }
        ));
    }
}
