//! Shared by all modules: kinds of objects, labels, ports, Java properties, lines of logs, comparing objects, and error messages.

pub mod error_chain;
pub mod finding;
pub mod hosts;
pub mod kind;
pub mod labels;
pub mod log_line;
pub mod managed_fields;
pub mod pods;
pub mod ports;
pub mod properties;
pub mod reports;
pub mod subset;
