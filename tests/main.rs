//! The tests that drive the program as a user does. A test's folder says what it needs, and is the filter that runs it,
//! as in `tests/run.sh offline::`:
//!
//! | folder | needs | is run by |
//! |---|---|---|
//! | `offline` | the program alone | `make test`, `tests/all.sh local` |
//! | `local` | Java, Spark and the servers that `tests/all.sh` installs; no Kubernetes | `make test`, `tests/all.sh local` |
//! | `kubernetes` | the testbed's node, or `SPARKHA_TEST_CLUSTER=existing` and a KUBECONFIG | `make test`, `tests/all.sh kubernetes` |
//! | `nodes` | three nodes of the testbed | `make bench-nodes` |
//!
//! A test whose needs a machine may not have is left out by this script, which says so and why: `tests/needs.sh`.
//!
//! A file in one of these folders runs once its module is declared below. `kit` is what tests share.
//!
//! Each test is a process of its own. `.config/nextest.toml` says which tests run beside each other.

// Tests may fail loudly, and what they print is shown only then.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod kit;

mod offline {
    /// Help, completions, bad input, exit codes.
    mod commands;
    /// The package, workflows, and what a release refuses.
    mod distribution;
    /// Which folders and files of the source may import which.
    mod imports;
    /// Every test runs in its folder.
    mod layout;
    /// Links in documents, and the book's summary.
    mod links;
    /// kubectl's plugin: names in help and hints, and completion.
    mod plugin;
    /// What `sparkha render` prints: the files under manifests/, and examples/.
    mod render;
    /// The entrypoints of masters and workers, and the script of drivers.
    mod scripts;
    /// The code blocks of README.md and docs/.
    mod snippets;
    /// Where the source may name what only some operating systems have.
    mod systems;
    /// `sparkha version`, and clusters that a newer sparkha wrote.
    mod versions;
}

mod local {
    /// A walk through all web UIs by clicking their links, before and after a failover.
    mod browser;
    /// The configuration for CoreDNS, served by a real one.
    mod coredns;
    /// The built-in router's DNS server, asked by `dig` and by hostile clients.
    mod dns;
    /// Leaders that end hand over at once; the drill.
    mod handover;
    /// Leaders that change in a drain, are paused, or lose what ZooKeeper had.
    mod leaders;
    /// Logs are files.
    mod logs;
    /// Drivers whose application the leader has ended while they were paused.
    mod orphans;
    /// The history server, Spark Connect and metrics, by real jobs.
    mod parts;
    /// Failover, lost quorum, lost supervisor, full disk, fetching Spark.
    mod platform;
    /// The built-in router: where it leads, what it refuses, and what it does when pods, clients or masters fail.
    mod router;
    /// Routes to the web UIs under real routers and DNS servers.
    mod routes;
    /// Data and event logs in an S3-compatible store.
    mod s3;
    /// Workers that come and go while jobs run.
    mod scale;
    /// Jobs with files, waiting jobs, detached and ended ones.
    mod submit;
    /// The order in which pods are replaced, and another version of Spark.
    mod upgrade;
    /// Routes written to Vulcand, by a real etcd and by its API, and checked.
    mod vulcand;
}

mod kubernetes {
    /// A walk through all web UIs, as on this machine.
    mod browser;
    /// A create on a cluster that exists: what it keeps, changes, and asks about first.
    mod change;
    /// Proxies on the way to the API server, and credential plugins.
    mod connection;
    /// The router and the route watch in the cluster, and routes by the cluster's own objects.
    mod deployed;
    /// What goes wrong with clusters, caused and found.
    mod doctor;
    /// An API server that refuses, stalls, breaks off and limits; interruptions at every step.
    mod faults;
    /// Leaders that end hand over at once; the drill.
    mod handover;
    /// A cluster file from a Helm release.
    mod import;
    /// One master, two clusters side by side, external ZooKeeper, storage, least privilege.
    mod layouts;
    /// Create, change, fail over and tear down a cluster with real jobs.
    mod lifecycle;
    /// Logs of pods and executors; called by `doctor` and `submit`, whose clusters they need.
    mod logs;
    /// Two commands at once and foreign state: pauses, a lost inventory, namespaces in use.
    mod ownership;
    /// The history server, Spark Connect and metrics, by real jobs.
    mod parts;
    /// Who reaches the cluster's ports, and who does not.
    mod policies;
    /// The Roles that sparkha prints.
    mod roles;
    /// Data and event logs in an S3-compatible store.
    mod s3;
    /// Workers that come and go while jobs run.
    mod scale;
    /// Jobs with files, waiting jobs, detached and ended ones.
    mod submit;
    /// Hostile objects in one namespace, and an administrator who looks at all of them.
    mod tenants;
    /// The order in which pods are replaced, and another version of Spark.
    mod upgrade;
}

mod nodes {
    /// Troubles of nodes, caused and found.
    mod doctor;
    /// Members spread over nodes that are drained and lost.
    mod drain_and_loss;
}
