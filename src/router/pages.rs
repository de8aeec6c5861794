//! The router's own pages: the list of web UIs, and why a web UI is not available. Pure.

use std::collections::HashMap;

use hyper::StatusCode;
use maud::{DOCTYPE, PreEscaped, html};

use super::links::UiNaming;
use crate::routing::{ClusterEntry, Role, Route, Table};

/// The most web UIs that an error page lists, shared by the clusters. Measured: a list of 10,000 takes 20 ms, which a client that requests unknown
/// hosts would take from everybody else.
const LISTED: usize = 200;
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1.5rem .2rem 0}h2{margin-bottom:.2rem}";
const NO_CLUSTER: &str = "There is no Spark cluster here.";

/// Why the router shows a page of its own.
#[derive(Clone, Copy, Debug)]
pub enum PageReason<'a> {
    /// The list was requested.
    Index,
    /// The host is unknown.
    UnknownHost { host: &'a str, port: u16 },
    /// The cluster is known, but none of its masters leads.
    NoLeader(&'a ClusterEntry),
    /// The pod does not respond.
    Unreachable(&'a Route),
    /// The pod took too long.
    Slow(&'a Route),
    /// The router does not know all clusters yet.
    Starting,
}

/// A page in HTML and in plain text.
pub struct RouterPage {
    pub status: StatusCode,
    pub html: String,
    pub text: String,
}

/// One cluster in the list.
struct Section<'a> {
    cluster: String,
    has_leader: bool,
    /// Role, pod and URL.
    web_uis: Vec<(&'static str, &'a str, String)>,
    /// Number of web UIs left out.
    more: usize,
}

/// `lists` is whether the page also lists the web UIs.
pub fn page(why: PageReason<'_>, lists: bool, table: &Table, naming: UiNaming) -> RouterPage {
    let (status, title, sentence) = words(why);
    // An empty list is no secret.
    let sections = (lists || table.clusters.is_empty()).then(|| sections(why, table, naming));
    RouterPage {
        status,
        html: html(title, &sentence, sections.as_deref()),
        text: text(title, &sentence, sections.as_deref()),
    }
}

/// The clusters and their web UIs.
fn sections<'a>(why: PageReason<'_>, table: &'a Table, naming: UiNaming) -> Vec<Section<'a>> {
    let mut of_clusters: HashMap<_, Vec<&Route>> = HashMap::new();
    for route in &table.routes {
        let owner = &route.owner;
        of_clusters
            .entry((&owner.namespace, &owner.cluster))
            .or_default()
            .push(route);
    }
    let most = match why {
        PageReason::Index => usize::MAX,
        _ => (LISTED / table.clusters.len().max(1)).max(1),
    };
    let section = |cluster: &'a ClusterEntry| {
        let mut routes = of_clusters
            .remove(&(&cluster.namespace, &cluster.name))
            .unwrap_or_default();
        // The former leader does not respond.
        routes.retain(|route| {
            route.owner.role != Role::Leader || !matches!(why, PageReason::NoLeader(led) if led == cluster)
        });
        routes.sort_by_key(|route| (route.owner.role, &route.owner.pod, route.port));
        let more = routes.len().saturating_sub(most);
        routes.truncate(most);
        let web_ui = |route: &&'a Route| {
            (
                role(route.owner.role),
                route.owner.pod.as_str(),
                naming.url(table, route),
            )
        };
        Section {
            cluster: format!("{}/{}", cluster.namespace, cluster.name),
            has_leader: routes.iter().any(|route| route.owner.role == Role::Leader),
            web_uis: routes.iter().map(web_ui).collect(),
            more,
        }
    };
    table.clusters.iter().map(section).collect()
}

fn html(title: &str, sentence: &str, sections: Option<&[Section<'_>]>) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) }
                meta name="viewport" content="width=device-width";
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p { (sentence) }
                @if sections.is_some_and(<[_]>::is_empty) {
                    p { (NO_CLUSTER) }
                }
                @for section in sections.into_iter().flatten() {
                    h2 { (section.cluster) }
                    table {
                        @if !section.has_leader {
                            tr { th { "leader" } td { "none at present" } }
                        }
                        @for (role, pod, url) in &section.web_uis {
                            tr { th { (role) } td { (pod) } td { a href={ (url) "/" } { (url) } } }
                        }
                        @if section.more > 0 {
                            tr { td colspan="3" { "and " (section.more) " more" } }
                        }
                    }
                }
            }
        }
    };
    page.into_string() + "\n"
}

fn text(title: &str, sentence: &str, sections: Option<&[Section<'_>]>) -> String {
    let mut text = format!("{title}\n{sentence}\n");
    if sections.is_some_and(<[_]>::is_empty) {
        text.push_str(&format!("\n{NO_CLUSTER}\n"));
    }
    for section in sections.into_iter().flatten() {
        text.push_str(&format!("\n{}\n", section.cluster));
        if !section.has_leader {
            text.push_str("  leader   none at present\n");
        }
        for (role, pod, url) in &section.web_uis {
            text.push_str(&format!("  {role:<8} {pod:<24} {url}/\n"));
        }
        if section.more > 0 {
            text.push_str(&format!("  and {} more\n", section.more));
        }
    }
    text
}

fn words(why: PageReason<'_>) -> (StatusCode, &'static str, String) {
    match why {
        PageReason::Index => (
            StatusCode::OK,
            "Spark's web UIs",
            "These are the clusters with routes here.".into(),
        ),
        PageReason::UnknownHost { host, port } => (
            StatusCode::NOT_FOUND,
            "No such web UI",
            format!("Nothing is known of {host} at port {port}. A pod's address changes when it restarts."),
        ),
        PageReason::NoLeader(cluster) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "No master leads",
            format!(
                "None of the masters of {}/{} leads at present. After a failover this passes within seconds.",
                cluster.namespace, cluster.name
            ),
        ),
        PageReason::Unreachable(route) => (
            StatusCode::BAD_GATEWAY,
            "The web UI does not answer",
            format!(
                "The {} {} in namespace {} cannot be reached; it may be starting or stopping.",
                role(route.owner.role),
                route.owner.pod,
                route.owner.namespace
            ),
        ),
        PageReason::Slow(route) => (
            StatusCode::GATEWAY_TIMEOUT,
            "The web UI takes too long",
            format!(
                "{} in namespace {} has not responded in time.",
                route.owner.pod, route.owner.namespace
            ),
        ),
        PageReason::Starting => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The router is starting",
            "It does not know all clusters yet.".into(),
        ),
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Master => "master",
        Role::Worker => "worker",
        Role::Driver => "driver",
        Role::History => "history",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::tests::table;

    #[test]
    fn an_unknown_host_gets_the_list_of_web_uis() {
        let table = Table::from_routes(table());
        let why = PageReason::UnknownHost {
            host: "<script>",
            port: 8080,
        };
        let page = page(why, true, &table, UiNaming::AsLinked);
        assert_eq!(page.status, 404);
        let row = |role, pod, url| {
            format!("<tr><th>{role}</th><td>{pod}</td><td><a href=\"http://{url}/\">http://{url}</a></td></tr>")
        };
        let rows = [
            row("leader", "spark-master-1", "spark-master.ns.k8s:8080"),
            row("master", "spark-master-0", "spark-10-1-2-3.ns.k8s:8080"),
            row("master", "spark-master-1", "spark-10-1-2-4.ns.k8s:8080"),
            row("worker", "spark-worker-0", "spark-fd00--5.ns.k8s:8081"),
        ];
        assert_eq!(
            page.html,
            format!(
                "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>No such web UI</title>\
                 <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\
                 <body><h1>No such web UI</h1>\
                 <p>Nothing is known of &lt;script&gt; at port 8080. A pod's address changes when it restarts.</p>\
                 <h2>ns/spark</h2><table>{}</table></body></html>\n",
                rows.concat()
            )
        );
        assert_eq!(
            page.text,
            "No such web UI\nNothing is known of <script> at port 8080. A pod's address changes when it restarts.\n\n\
             ns/spark\n  leader   spark-master-1           http://spark-master.ns.k8s:8080/\n  \
             master   spark-master-0           http://spark-10-1-2-3.ns.k8s:8080/\n  \
             master   spark-master-1           http://spark-10-1-2-4.ns.k8s:8080/\n  \
             worker   spark-worker-0           http://spark-fd00--5.ns.k8s:8081/\n"
        );
    }

    #[test]
    fn an_untrusted_host_gets_no_list() {
        let table = Table::from_routes(table());
        let why = PageReason::UnknownHost {
            host: "evil.example",
            port: 4400,
        };
        let page = page(why, false, &table, UiNaming::AsLinked);
        let sentence = "Nothing is known of evil.example at port 4400. A pod's address changes when it restarts.";
        assert_eq!(page.text, format!("No such web UI\n{sentence}\n"));
        assert!(
            page.html
                .ends_with(&format!("<h1>No such web UI</h1><p>{sentence}</p></body></html>\n"))
        );
    }

    #[test]
    fn an_error_page_lists_the_first_web_uis_and_the_index_all() {
        let mut routes = table();
        let worker = routes.iter().find(|route| route.owner.role == Role::Worker).cloned();
        routes.extend((0..9_996).map(|n| Route {
            host: format!("spark-{n}.ns.k8s"),
            ..worker.clone().unwrap()
        }));
        let table = Table::from_routes(routes);
        let why = PageReason::UnknownHost { host: "h", port: 80 };
        let lines = |why| page(why, true, &table, UiNaming::AsLinked).text.lines().count();
        assert_eq!(lines(why), 4 + LISTED + 1);
        assert_eq!(lines(PageReason::Index), 4 + 10_000);
        let page = page(why, true, &table, UiNaming::AsLinked);
        assert!(page.text.ends_with("\n  and 9800 more\n"), "{}", page.text);
        assert!(page.text.contains("  leader   spark-master-1 "));
        assert!(page.html.contains(">and 9800 more<"));
    }

    #[test]
    fn a_cluster_without_a_leader_is_listed_too() {
        let mut table = Table::from_routes(table());
        // One whose leader does not respond, and one without a leader.
        for leaders in [1, 0] {
            let page = page(
                PageReason::NoLeader(&table.clusters[0]),
                true,
                &table,
                UiNaming::AsLinked,
            );
            assert_eq!(page.status, 503);
            assert!(
                page.text.contains("ns/spark\n  leader   none at present\n"),
                "{leaders}"
            );
            assert!(!page.html.contains("spark-master.ns.k8s"), "{leaders}");
            table.routes.retain(|route| route.owner.role != Role::Leader);
        }
    }
}
