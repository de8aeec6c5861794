//! The tests that drive the program as a user does. Table of contents:
//!
//! - [`offline`]: what needs no Kubernetes: render, schema, completions, bad input, exit codes, the files under manifests/.
//! - [`local`]: the local platform with real processes: failover, lost quorum, lost supervisor, full disk, fetching Spark.
//! - [`routes`]: routes to the web UIs under real routers and DNS servers.
//! - [`browser`]: a walk through all web UIs by clicking their links, before and after a failover; here and on Kubernetes.
//! - [`router`]: the built-in router: whom it leads where, what it refuses, and what it does when pods, clients or masters fail.
//! - [`vulcand`]: routes written to Vulcand, by a real etcd and by its API, and checked.
//! - [`dns`]: the built-in router's DNS server, asked by `dig` and by whoever means harm.
//! - [`parts`]: what a cluster may have beside masters and workers, by real jobs; here and on Kubernetes.
//! - [`faults`]: an API server that refuses, stalls, breaks off and limits; interruptions at every step.
//! - [`change`]: a create on a cluster that is there: what it keeps, changes, and asks about first.
//! - [`ownership`]: two commands at once and somebody else's state: pauses, a lost inventory, namespaces in use.
//! - [`tenants`]: hostile objects in one namespace, and an administrator who looks at all of them.
//! - [`lifecycle`]: create, change, fail over and tear down a real cluster with real jobs.
//! - [`upgrade`]: the order in which pods are replaced, and another version of Spark; on this machine.
//! - [`scale`]: workers that come and go while jobs run; here and on Kubernetes.
//! - [`handover`]: leaders that end however they do hand over at once, and the drill; here and on Kubernetes.
//! - [`leaders`]: leaders that change in a drain, are paused, or lose what ZooKeeper had.
//! - [`submit`]: jobs with files, waiting jobs, detached and ended ones, on this machine and in pods.
//! - [`orphans`]: drivers whose application the leader has ended while they were paused.
//! - [`deployed`]: the router and the route watch in a real cluster, and routes by the cluster's own objects.
//! - [`policies`]: who reaches the cluster's ports, and who does not.
//! - [`doctor`]: what goes wrong with clusters, caused and found.
//! - [`logs`]: logs of pods and executors, there and on this machine.
//! - [`nodes`]: three real nodes: members spread, drained and lost. By `make bench-nodes` only.
//! - [`layouts`]: one master, two clusters side by side, external ZooKeeper, storage, least privilege.
//!
//! All but the first four need the real node of `tests/testbed`, or `SPARKHA_TEST_CLUSTER=existing` and a KUBECONFIG.

// Tests may fail loudly, and what they print is shown only then.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod browser;
mod change;
mod deployed;
mod dns;
mod faults;
mod handover;
mod kit;
mod kubernetes {
    mod browser;
    mod doctor;
    mod handover;
    mod logs;
    mod parts;
    mod scale;
    mod submit;
    mod upgrade;
}
mod layouts;
mod leaders;
mod lifecycle;
mod local;
mod logs;
mod nodes;
mod offline;
mod orphans;
mod ownership;
mod parts;
mod policies;
mod roles;
mod router;
mod routes;
mod scale;
mod submit;
mod tenants;
mod upgrade;
mod vulcand;
