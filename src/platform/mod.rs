//! The two places where a cluster can run, and how its members are asked in either.

pub mod kubernetes;
pub mod leader;
pub mod local;
pub mod observer;
pub mod peers;
pub mod poll;
pub mod transport;
