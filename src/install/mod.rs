//! Makes a host a node, and undoes it: preflight, init, join, reset. What an empty machine
//! runs from a medium stands in `live/`.
//!
//! ```text
//!  init:  verify ► preflight ► identity ► pki ► config ► playbooks ► images ► start ► record
//!  join:  verify ► preflight ► request  ► config ► playbooks ► images ► start ► joined
//! ```
//! Every phase is noted durably when it is done and can be repeated until then; what
//! must not differ between two runs (ids, keys, password) is on disk before it is used.
//! Invariant: nothing is written before the bundle is verified and the host is checked.
//! Not here: what changes a host in detail (the playbooks), how the store works.

pub mod apply;
pub mod bundle_source;
pub mod init;
pub mod join;
pub mod join_service;
mod leave;
pub mod live;
pub mod node_service;
mod node_view;
pub mod phases;
mod place;
pub mod ports;
pub mod preflight;
pub mod recover;
pub mod refused;
pub mod registry_trust;
pub mod release;
pub mod remote;
pub mod removal_note;
mod removed_key;
pub mod renewal;
pub mod reset;
pub mod secret_keys;
pub mod tokens;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod join_tests;
#[cfg(test)]
mod removal_tests;
#[cfg(test)]
mod renewal_tests;
#[cfg(test)]
mod reset_tests;
#[cfg(test)]
mod sequence_tests;
