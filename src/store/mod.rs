//! The replicated, versioned key-value store: Raft over redb.
//!
//! What others use is [`Kv`] (data) and [`Store`] (membership, life).

pub mod api;

pub use api::{Kv, PeerError, PeerNetwork, PeerTarget, StoreError};
