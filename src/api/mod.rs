//! Listeners: one folder per protocol.

pub mod admin;
pub mod identity;
pub mod join;
pub mod kube;
pub mod listener;
pub mod peer;
