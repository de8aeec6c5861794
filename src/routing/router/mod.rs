//! The built-in router: an HTTP proxy that knows the route table, and nothing else. Whoever asks for a host and port in the table gets that pod's
//! web UI; whoever asks for anything else gets a page that says what there is.

mod access;
pub mod authority;
pub mod head;
mod links;
mod listen;
mod origin;
mod pages;
mod places;
mod pods;
mod proxy;

pub use access::{Access, AccessError};
pub use links::Naming;
pub use listen::{Front, serve};
pub use proxy::{ACCESS_LOG, Router};
