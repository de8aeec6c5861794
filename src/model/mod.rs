//! What rooms above share: the kinds of objects, their labels, and ports.

pub mod kind;
pub mod labels;
pub mod ports;
