//! The pages that the router itself shows: what there is, and why something is not there. Pure.

use std::collections::HashMap;

use hyper::StatusCode;

use super::links::Naming;
use crate::routing::{ClusterEntry, Role, Route, Table};

/// How many web UIs a page lists that nobody asked for, shared by the clusters. Measured: a list of 10,000 takes 20 ms, which whoever asks for
/// unknown hosts would take from everybody else.
const LISTED: usize = 200;

/// Why somebody sees a page of the router's own.
#[derive(Clone, Copy, Debug)]
pub enum Why<'a> {
    /// The list of everything was asked for.
    Index,
    /// Nothing is known of this host.
    UnknownHost { host: &'a str, port: u16 },
    /// The cluster is known, and none of its masters leads.
    NoLeader(&'a ClusterEntry),
    /// The pod does not answer.
    Unreachable(&'a Route),
    /// The pod took too long.
    Slow(&'a Route),
    /// The router has not seen everything yet.
    Starting,
}

/// A page for people, and for programs.
pub struct Page {
    pub status: StatusCode,
    pub html: String,
    pub text: String,
}

/// `lists` is whether it also says what there is.
pub fn page(why: Why<'_>, lists: bool, table: &Table, naming: Naming) -> Page {
    let (status, title, sentence) = words(why);
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><meta name=\"viewport\" \
         content=\"width=device-width\"><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         table{{border-collapse:collapse}}td,th{{text-align:left;padding:.2rem 1.5rem .2rem 0}}h2{{margin-bottom:.2rem}}</style></head>\
         <body><h1>{title}</h1><p>{}</p>",
        escape(&sentence)
    );
    let mut text = format!("{title}\n{sentence}\n");
    // That there is none is no secret.
    if lists || table.clusters.is_empty() {
        list(why, table, naming, &mut html, &mut text);
    }
    html.push_str("</body></html>\n");
    Page { status, html, text }
}

/// The clusters and their web UIs.
fn list(why: Why<'_>, table: &Table, naming: Naming, html: &mut String, text: &mut String) {
    if table.clusters.is_empty() {
        let none = "There is no Spark cluster here.";
        html.push_str(&format!("<p>{none}</p>"));
        text.push_str(&format!("\n{none}\n"));
    }
    let mut of_clusters: HashMap<_, Vec<&Route>> = HashMap::new();
    for route in &table.routes {
        let owner = &route.owner;
        of_clusters
            .entry((&owner.namespace, &owner.cluster))
            .or_default()
            .push(route);
    }
    let most = match why {
        Why::Index => usize::MAX,
        _ => (LISTED / table.clusters.len().max(1)).max(1),
    };
    for cluster in &table.clusters {
        let name = format!("{}/{}", cluster.namespace, cluster.name);
        html.push_str(&format!("<h2>{}</h2><table>", escape(&name)));
        text.push_str(&format!("\n{name}\n"));
        let mut routes = of_clusters
            .remove(&(&cluster.namespace, &cluster.name))
            .unwrap_or_default();
        // The one that led a moment ago does not answer.
        routes.retain(|route| route.owner.role != Role::Leader || !matches!(why, Why::NoLeader(led) if led == cluster));
        routes.sort_by_key(|route| (route.owner.role, &route.owner.pod, route.port));
        let more = routes.len().saturating_sub(most);
        routes.truncate(most);
        if !routes.iter().any(|route| route.owner.role == Role::Leader) {
            html.push_str("<tr><th>leader</th><td>none at present</td></tr>");
            text.push_str("  leader   none at present\n");
        }
        for route in routes {
            let (role, pod, url) = (role(route.owner.role), &route.owner.pod, naming.url(table, route));
            html.push_str(&format!(
                "<tr><th>{role}</th><td>{}</td><td><a href=\"{url}/\">{url}</a></td></tr>",
                escape(pod)
            ));
            text.push_str(&format!("  {role:<8} {pod:<24} {url}/\n"));
        }
        if more > 0 {
            html.push_str(&format!("<tr><td colspan=\"3\">and {more} more</td></tr>"));
            text.push_str(&format!("  and {more} more\n"));
        }
        html.push_str("</table>");
    }
}

fn words(why: Why<'_>) -> (StatusCode, &'static str, String) {
    match why {
        Why::Index => (
            StatusCode::OK,
            "Spark's web UIs",
            "These are the clusters that are routed here.".into(),
        ),
        Why::UnknownHost { host, port } => (
            StatusCode::NOT_FOUND,
            "No such web UI",
            format!("Nothing is known of {host} at port {port}. A pod's address changes when it starts anew."),
        ),
        Why::NoLeader(cluster) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "No master leads",
            format!(
                "None of the masters of {}/{} leads at present. After a failover this passes within seconds.",
                cluster.namespace, cluster.name
            ),
        ),
        Why::Unreachable(route) => (
            StatusCode::BAD_GATEWAY,
            "The web UI does not answer",
            format!(
                "The {} {} in namespace {} cannot be reached; it may be ending or starting.",
                role(route.owner.role),
                route.owner.pod,
                route.owner.namespace
            ),
        ),
        Why::Slow(route) => (
            StatusCode::GATEWAY_TIMEOUT,
            "The web UI takes too long",
            format!(
                "{} in namespace {} has not answered in time.",
                route.owner.pod, route.owner.namespace
            ),
        ),
        Why::Starting => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The router is starting",
            "It has not seen all clusters yet.".into(),
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

/// Names in the page are checked elsewhere; a page never relies on that.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::tests::table;

    #[test]
    fn an_unknown_host_is_told_what_there_is() {
        let table = Table::from_routes(table());
        let why = Why::UnknownHost {
            host: "<script>",
            port: 8080,
        };
        let page = page(why, true, &table, Naming::AsLinked);
        assert_eq!(page.status, 404);
        assert!(page.html.contains("&lt;script&gt;") && !page.html.contains("<script"));
        assert_eq!(
            page.text,
            "No such web UI\nNothing is known of <script> at port 8080. A pod's address changes when it starts anew.\n\n\
             ns/spark\n  leader   spark-master-1           http://spark-master.ns.k8s:8080/\n  \
             master   spark-master-0           http://spark-10-1-2-3.ns.k8s:8080/\n  \
             master   spark-master-1           http://spark-10-1-2-4.ns.k8s:8080/\n  \
             worker   spark-worker-0           http://spark-fd00--5.ns.k8s:8081/\n"
        );
    }

    #[test]
    fn a_stranger_is_told_nothing() {
        let table = Table::from_routes(table());
        let why = Why::UnknownHost {
            host: "evil.example",
            port: 4400,
        };
        let page = page(why, false, &table, Naming::AsLinked);
        assert!(
            !page.html.contains("spark") && !page.text.contains("spark"),
            "{}",
            page.text
        );
    }

    #[test]
    fn of_thousands_an_error_lists_the_first_and_the_index_all() {
        let mut routes = table();
        let worker = routes.iter().find(|route| route.owner.role == Role::Worker).cloned();
        routes.extend((0..9_996).map(|n| Route {
            host: format!("spark-{n}.ns.k8s"),
            ..worker.clone().unwrap()
        }));
        let table = Table::from_routes(routes);
        let why = Why::UnknownHost { host: "h", port: 80 };
        let lines = |why| page(why, true, &table, Naming::AsLinked).text.lines().count();
        assert_eq!(lines(why), 4 + LISTED + 1);
        assert_eq!(lines(Why::Index), 4 + 10_000);
        let page = page(why, true, &table, Naming::AsLinked);
        assert!(page.text.ends_with("\n  and 9800 more\n"), "{}", page.text);
        assert!(page.text.contains("  leader   spark-master-1 "));
        assert!(page.html.contains(">and 9800 more<"));
    }

    #[test]
    fn a_cluster_without_a_leader_is_listed_too() {
        let mut table = Table::from_routes(table());
        // One that does not answer, and none at all.
        for leaders in [1, 0] {
            let page = page(Why::NoLeader(&table.clusters[0]), true, &table, Naming::AsLinked);
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
