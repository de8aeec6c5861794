//! Any page in any pieces: the same page comes out however it was cut, and only links to the table's hosts differ.

#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/router/authority.rs"]
mod authority;
#[path = "../../src/router/links.rs"]
mod links;
#[path = "../../src/model/mod.rs"]
mod model;
#[path = "../../src/routing/mod.rs"]
mod routing;
#[path = "../../src/spec/mod.rs"]
mod spec;

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use links::{Rewriter, UiNaming};
use model::labels::Component;
use routing::{RoutedCluster, RoutedPod, Table};
use spec::names::{ClusterName, UiDomain};

/// A worker and its driver, and a worker with an IPv6 address.
static TABLE: LazyLock<Arc<Table>> = LazyLock::new(|| {
    let member = |pod: &str, component, address: &str| RoutedPod {
        pod: pod.into(),
        component,
        address: address.parse().unwrap(),
    };
    let cluster = RoutedCluster {
        namespace: "ns".into(),
        name: ClusterName::parse("spark").unwrap(),
        alias: None,
        ui_domain: UiDomain::default(),
        members: vec![
            member("spark-master-0", Component::Master, "10.1.2.3"),
            member("spark-worker-0", Component::Worker, "10.1.2.4"),
            member("spark-worker-1", Component::Worker, "fd00::5"),
        ],
        leader: Some("spark-master-0".into()),
        driver_uis: vec!["http://spark-10-1-2-4.ns.k8s:4040".into()],
    };
    Arc::new(Table::of([&cluster]))
});

fuzz_target!(|input: (&[u8], Vec<u8>)| {
    let (page, cuts) = input;
    for naming in [UiNaming::Secure, UiNaming::Localhost { port: 4000 }] {
        let whole = rewrite(naming, &[page]);
        let mut parts = vec![];
        let mut rest = page;
        for cut in &cuts {
            let (part, after) = rest.split_at(usize::from(*cut).min(rest.len()));
            parts.push(part);
            rest = after;
        }
        parts.push(rest);
        assert_eq!(rewrite(naming, &parts), whole);
        // A page without links is left as it is.
        if !page.windows(7).any(|bytes| bytes == b"http://") {
            assert_eq!(whole, page);
        }
    }
});

fn rewrite(naming: UiNaming, parts: &[&[u8]]) -> Vec<u8> {
    let mut rewriter = Rewriter::new(naming, TABLE.clone());
    let mut page: Vec<u8> = parts.iter().flat_map(|part| rewriter.next(part)).collect();
    page.extend(rewriter.end());
    page
}
