//! Whether the cluster's names resolve: queried from the cluster's name server over a forwarded port, and by the cluster's own pods, whose result
//! counts more.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;

use super::facts::{NameServerReport, Observed, PodReport, Resolution, joined};
use crate::doctor::{Check, Findings};
use crate::model::labels::{Component, is_of_cluster};
use crate::platform::kubernetes::Cluster;
use crate::spec::ClusterSpec;
use crate::spec::names::Namespace;
use crate::spec::words::counted;

const NAME: &str = "DNS";
/// Namespace and label of the pods of cluster DNS, for CoreDNS and kube-dns alike.
const SYSTEM: &str = "kube-system";
const SELECTOR: &str = "k8s-app=kube-dns";
/// The default domain of a cluster.
const DOMAIN: &str = "cluster.local";
/// Timeout of one query.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Queries a pod of the cluster's DNS for the API server, which every cluster has, and for this cluster's Services.
pub async fn query_cluster_dns(
    cluster: &Cluster,
    spec: &ClusterSpec,
    services: &Observed<Vec<Service>>,
) -> Observed<NameServerReport> {
    let system = Namespace::parse(SYSTEM).map_err(|error| error.to_string())?;
    let system = cluster.in_namespace(system);
    let pods: Vec<Pod> = system
        .list_of(SELECTOR)
        .await
        .map_err(|_| format!("you may not list the pods of {SYSTEM}"))?;
    let Some(pod) = pods.iter().find(|pod| crate::state::is_ready(pod)) else {
        return Err(match pods.is_empty() {
            true => format!("{SYSTEM} has no pod with the label {SELECTOR}"),
            false => format!("no pod with the label {SELECTOR} is ready in {SYSTEM}"),
        });
    };
    let forwarded = system.forward_listener(&pod.name_any(), 53).await;
    let forwarded = forwarded.map_err(|error| error.to_string())?;
    let own = services
        .iter()
        .flatten()
        .filter(|service| is_of_cluster(service.metadata.labels.as_ref(), spec.name.as_str()))
        // Without workers their name is unknown, and nothing connects to it.
        .filter(|service| Component::of(service.labels()) != Some(Component::Worker))
        .map(|service| format!("{}.{}.svc.{DOMAIN}.", service.name_any(), cluster.namespace()));
    let names: Vec<_> = [format!("kubernetes.default.svc.{DOMAIN}.")]
        .into_iter()
        .chain(own)
        .collect();
    report(pod.name_any(), &names, query(forwarded.address, &names).await?)
}

/// The report of a name server. Every cluster has the first of the names: where it is unknown, the cluster has another domain, and no answer
/// says anything.
fn report(server: String, names: &[String], wrong: Vec<String>) -> Observed<NameServerReport> {
    if let Some(first) = names.first()
        && wrong.contains(&unknown(first))
    {
        return Err(format!(
            "{server} does not know {first}: the cluster's domain may not be {DOMAIN}"
        ));
    }
    Ok(NameServerReport {
        server,
        names: names.len(),
        wrong,
    })
}

fn unknown(name: &str) -> String {
    format!("{name} is unknown")
}

/// The names that do not resolve, each with the reason. A forwarded port carries TCP.
async fn query(server: SocketAddr, names: &[String]) -> Observed<Vec<String>> {
    let mut connection = ConnectionConfig::tcp();
    connection.port = server.port();
    let servers = vec![NameServerConfig::new(server.ip(), true, vec![connection])];
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().timeout = TIMEOUT;
    builder.options_mut().attempts = 1;
    let resolver = builder.build().map_err(|error| error.to_string())?;
    let resolver = &resolver;
    let lookups = names.iter().map(|name| async move {
        match resolver.lookup_ip(name.as_str()).await {
            Ok(_) => None,
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => Some(unknown(name)),
            Err(error) => Some(format!("{name}: {error}")),
        }
    });
    Ok(join_all(lookups).await.into_iter().flatten().collect())
}

/// `probes` is `None` without a cluster whose pods could be queried.
pub fn judge(server: &Observed<NameServerReport>, probes: Option<&Observed<Vec<PodReport>>>) -> Vec<Check> {
    let server_hint = "check the name server's log: `kubectl --namespace kube-system logs --selector k8s-app=kube-dns`";
    let mut findings = Findings::of(NAME);
    let mut observed = Vec::new();
    let mut why = Vec::new();
    match server {
        Ok(asked) if asked.wrong.is_empty() => {
            observed.push(format!("{} resolves {}", asked.server, counted(asked.names, "name")))
        }
        Ok(asked) => findings.fail(format!("{}: {}", asked.server, joined(&asked.wrong)), server_hint),
        Err(reason) => why.push(reason.clone()),
    }
    match probes {
        Some(Ok(answers)) => {
            for (observed, hint) in answers.iter().filter_map(unresolved) {
                findings.fail(observed, hint);
            }
            match answers.iter().filter(|answer| !answer.names.is_empty()).count() {
                0 => why.push("its pods have no `getent` to resolve with".into()),
                asked => observed.push(format!(
                    "masters and ZooKeeper servers resolve in {}",
                    counted(asked, "pod")
                )),
            }
        }
        Some(Err(reason)) => why.push(reason.clone()),
        None => {}
    }
    if observed.is_empty() && findings.found.is_empty() {
        let hint = "grant `pods/exec`, or access to the pods of kube-system";
        return vec![Check::skipped(NAME, why.join("; "), hint)];
    }
    // Without findings, all that was observed is well.
    findings.or_ok(observed.join(", "))
}

/// The names that a pod cannot resolve. A worker's own name is judged with the workers.
fn unresolved(answer: &PodReport) -> Option<(String, &'static str)> {
    let own = |name: &str| name.contains("-master-") || name.contains("-zookeeper");
    let with = |outcome| {
        let names = answer
            .names
            .iter()
            .filter(move |name| name.outcome == outcome && own(&name.name));
        names.map(|name| name.name.clone()).collect::<Vec<_>>()
    };
    let (silent, unknown) = (with(Resolution::Unanswered), with(Resolution::Unknown));
    if !silent.is_empty() {
        let observed = format!("{} gets no answer for {}", answer.pod, joined(&silent));
        return Some((
            observed,
            "the pod does not reach its name server: check dnsPolicy, NetworkPolicies (port 53) and the node",
        ));
    }
    (!unknown.is_empty()).then(|| {
        (
            format!("{} cannot resolve {}", answer.pod, joined(&unknown)),
            "the name server does not have these names: check the pod's dnsPolicy and /etc/resolv.conf, and the cluster's DNS",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::facts::Lookup;
    use super::*;
    use crate::doctor::Status;

    fn answer(pod: &str, names: &[(&str, Resolution)]) -> PodReport {
        let names = names.iter().map(|&(name, outcome)| Lookup {
            name: name.into(),
            outcome,
        });
        PodReport {
            pod: pod.into(),
            names: names.collect(),
            ..PodReport::default()
        }
    }

    #[test]
    fn each_pod_that_resolves_nothing_is_reported() {
        let probes = Ok(vec![
            answer(
                "spark-master-0",
                &[("spark-master-0", Resolution::Known), ("laptop", Resolution::Unknown)],
            ),
            answer("spark-worker-0", &[("spark-master-0", Resolution::Unanswered)]),
            answer("spark-worker-1", &[("spark-master-0", Resolution::Unknown)]),
        ]);
        let checks = judge(&Err("not seen".into()), Some(&probes));
        let observed: Vec<_> = checks
            .iter()
            .map(|check| (check.status, check.observed.as_str()))
            .collect();
        assert_eq!(
            observed,
            [
                (Status::Failed, "spark-worker-0 gets no answer for spark-master-0"),
                (Status::Failed, "spark-worker-1 cannot resolve spark-master-0"),
            ]
        );
    }

    #[test]
    fn a_check_without_data_is_skipped_with_the_reason() {
        let checks = judge(&Err("you may not see kube-system".into()), None);
        assert_eq!(checks[0].status, Status::Skipped);
        assert_eq!(checks[0].observed, "you may not see kube-system");
        let known = judge(
            &Ok(NameServerReport {
                server: "coredns-1".into(),
                names: 1,
                wrong: vec![],
            }),
            None,
        );
        assert_eq!(known[0], Check::ok(NAME, "coredns-1 resolves 1 name"));
    }

    #[test]
    fn a_name_server_of_another_domain_is_not_judged() {
        let names = ["kubernetes.svc.".to_owned(), "spark.svc.".to_owned()];
        let of = |wrong: &[&str]| {
            report(
                "coredns-1".into(),
                &names,
                wrong.iter().map(|name| unknown(name)).collect(),
            )
        };
        let other = of(&["kubernetes.svc.", "spark.svc."]);
        assert_eq!(judge(&other, None)[0].status, Status::Skipped);
        let probes = Ok(vec![answer("spark-master-0", &[("spark-master-0", Resolution::Known)])]);
        assert_eq!(judge(&other, Some(&probes))[0].status, Status::Ok);
        let lost = of(&["spark.svc."]);
        assert_eq!(judge(&lost, Some(&probes))[0].status, Status::Failed);
    }

    /// A name server over TCP with one name.
    #[tokio::test]
    async fn a_forwarded_name_server_is_queried_over_tcp() {
        use hickory_proto::op::{Message, ResponseCode};
        use hickory_proto::rr::{RData, Record};
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut bytes = vec![0; length.into()];
                        stream.read_exact(&mut bytes).await.unwrap();
                        let question = Message::from_vec(&bytes).unwrap();
                        let query = question.queries[0].clone();
                        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
                        answer.metadata.recursion_available = true;
                        if query.name().to_string().starts_with("known.") {
                            if query.query_type() == hickory_proto::rr::RecordType::A {
                                let data = RData::A(std::net::Ipv4Addr::new(10, 0, 0, 1).into());
                                answer.add_answer(Record::from_rdata(query.name().clone(), 5, data));
                            }
                        } else {
                            answer.metadata.response_code = ResponseCode::NXDomain;
                        }
                        answer.add_query(query);
                        let bytes = answer.to_vec().unwrap();
                        stream.write_u16(bytes.len() as u16).await.unwrap();
                        stream.write_all(&bytes).await.unwrap();
                    }
                });
            }
        });
        let names = ["known.svc.".to_owned(), "lost.svc.".to_owned()];
        assert_eq!(query(address, &names).await.unwrap(), ["lost.svc. is unknown"]);
    }
}
