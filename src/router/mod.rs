//! The built-in router: an HTTP proxy that forwards requests for hosts and ports of the route table to pods, a DNS server for the UI domain, and an
//! endpoint for metrics and health. Requests for other hosts get a page that lists the web UIs.

mod access;
pub mod authority;
pub mod dns;
pub mod head;
mod links;
mod listen;
pub mod metrics;
mod origin;
mod pages;
mod pods;
mod proxy;
mod slots;
mod timer;

pub use access::{Access, AccessError};
pub use links::UiNaming;
pub use listen::{HttpListeners, serve};
pub use proxy::{ACCESS_LOG, Router};
