//! What the rooms above share: kinds of objects, labels, ports, Java's properties, and how objects and errors are compared and read.

pub mod error_chain;
pub mod finding;
pub mod hosts;
pub mod kind;
pub mod labels;
pub mod managed_fields;
pub mod ports;
pub mod properties;
pub mod reports;
pub mod subset;
