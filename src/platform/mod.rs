//! The places where a cluster can run.

pub mod kubernetes;
