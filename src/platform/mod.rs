//! The two platforms on which a cluster can run, Kubernetes and this machine, and how sparkha queries its pods on either.

pub mod kubernetes;
pub mod leader;
pub mod local;
pub mod observer;
pub mod peers;
pub mod poll;
pub mod transport;
