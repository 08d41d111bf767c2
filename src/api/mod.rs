//! Listeners: one folder per protocol.

pub mod admin;
pub mod dr;
pub mod etcd;
pub mod identity;
pub mod join;
pub mod kube;
pub mod listener;
pub mod node_usage;
pub mod nodes;
pub mod oci;
pub(crate) mod other_sites;
pub mod peer;
pub mod pod_streams;
pub mod secret_keys;
pub mod session_caller;
pub mod store_upkeep;
