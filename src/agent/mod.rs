//! Turns the pods bound to this node into containers, and reports what they do.

pub mod ports;
