//! The replicated, versioned key-value store: Raft over redb.
//!
//! What others use is [`Kv`] (data) and [`Store`] (membership, life).

pub mod admin_api;
mod announce;
pub mod api;
mod ask;
mod barrier;
mod codec;
mod disk;
mod etcd_kv;
mod health;
mod incoming;
mod kv;
mod leases;
mod log;
mod maintenance;
mod member;
mod members;
mod membership;
mod message;
mod outbound;
mod propose;
mod quorum;
mod quorum_loss;
mod quorum_watch;
mod raft_network;
mod read_gate;
mod receive;
mod runtime;
mod shared;
mod space;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod types;
mod users;
mod watch;

pub use api::{EtcdKv, Kv, PeerError, PeerNetwork, PeerTarget, StoreError, WatchStream};
pub use codec::CodecError;
pub use disk::{DiskSpace, DiskWork, HostDisk, StoreDisk};
pub use log::LogError;
pub use member::{OpenError, Store, StoreConfig, StoreDeps, StoreTuning};
pub use quorum_loss::QuorumLoss;
pub use runtime::seed_this_thread;
pub use state::StateError;
pub use status::{MemberInfo, StoreStatus};
