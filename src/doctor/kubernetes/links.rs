//! Service links: Kubernetes gives every pod variables about the Services of its namespace, unless it sets `enableServiceLinks: false`. A Service
//! named spark-master gives `SPARK_MASTER_PORT=tcp://…`, which Spark reads as its own setting.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;

use super::facts::{Observed, joined};
use crate::doctor::{Check, Findings};

const NAME: &str = "service links";
/// The variables that Spark's scripts and daemons read.
const READ: [&str; 3] = ["SPARK_MASTER_PORT", "SPARK_WORKER_PORT", "SPARK_HISTORY_PORT"];

/// `pods` are the users' own: sparkha's have no service links.
pub fn judge(pods: &[Pod], services: &Observed<Vec<Service>>) -> Vec<Check> {
    let services = match services {
        Ok(services) => services,
        Err(why) => return vec![Check::skipped(NAME, why, "")],
    };
    // Headless Services give none.
    let with_address = services.iter().filter(|service| {
        let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
        !matches!(address, None | Some("" | "None"))
    });
    let variables: Vec<_> = with_address
        .map(|service| format!("{}_PORT", service.name_any().to_uppercase().replace('-', "_")))
        .filter(|variable| READ.contains(&variable.as_str()))
        .collect();
    let mut findings = Findings::of(NAME);
    for pod in pods {
        let given = variables.iter().filter(|variable| gets(pod, variable));
        let given: Vec<_> = given.cloned().collect();
        if !given.is_empty() {
            let (pod, given) = (pod.name_any(), joined(&given));
            findings.fail(
                format!("{pod} is given {given}=tcp://… for a Service of that name"),
                "set enableServiceLinks: false in its pod, or Spark reads the variable as its own setting",
            );
        }
    }
    findings.or_ok(match pods.len() {
        0 => "there are no driver pods".into(),
        count => format!("{count} driver pods have none"),
    })
}

/// Whether the pod gets the variable: its own definition would take precedence.
fn gets(pod: &Pod, variable: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let without = |container: &k8s_openapi::api::core::v1::Container| {
        !container.env.iter().flatten().any(|env| env.name == variable)
    };
    spec.enable_service_links != Some(false) && spec.containers.iter().any(without)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::Status;

    fn service(name: &str, address: &str) -> Service {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"clusterIP": address}})).unwrap()
    }

    fn pod(spec: &serde_json::Value) -> Vec<Pod> {
        vec![serde_json::from_value(json!({"metadata": {"name": "driver"}, "spec": spec})).unwrap()]
    }

    #[test]
    fn a_driver_with_links_of_a_service_named_like_sparks_own_variable_fails() {
        let services = Ok(vec![
            service("spark-master", "10.96.0.1"),
            service("etl-master", "10.96.0.2"),
        ]);
        let open = pod(&json!({"containers": [{"name": "c"}]}));
        let check = &judge(&open, &services)[0];
        assert_eq!(check.status, Status::Failed);
        assert_eq!(
            check.observed,
            "driver is given SPARK_MASTER_PORT=tcp://… for a Service of that name"
        );
        let closed = pod(&json!({"enableServiceLinks": false, "containers": [{"name": "c"}]}));
        assert_eq!(judge(&closed, &services)[0].status, Status::Ok);
        let said =
            pod(&json!({"containers": [{"name": "c", "env": [{"name": "SPARK_MASTER_PORT", "value": "7077"}]}]}));
        assert_eq!(judge(&said, &services)[0].status, Status::Ok);
        let headless = Ok(vec![
            service("spark-master", "None"),
            service("etl-master", "10.96.0.2"),
        ]);
        assert_eq!(judge(&open, &headless)[0].status, Status::Ok);
    }
}
