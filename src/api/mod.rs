//! Listeners: one folder per protocol.

pub mod join;
