//! Listeners: one folder per protocol.

pub mod identity;
pub mod oci;
