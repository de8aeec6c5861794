//! A cluster's life: create, scale, upgrade, stop, rotate and teardown, each a visible list of steps.

pub mod applications;
pub mod connect_url;
pub mod create;
pub mod differences;
mod error;
pub mod external_zookeeper;
pub mod generations;
pub mod inventory;
pub mod plan;
pub mod preflight;
#[cfg(test)]
mod releases;
pub mod rollout;
pub mod rotate;
pub mod scale;
pub mod secret;
pub mod spark_change;
pub mod status;
pub mod teardown;
pub mod upgrade;
pub mod versions;
pub mod wait;

pub use error::{Error, longer};
