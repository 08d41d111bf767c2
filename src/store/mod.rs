//! The replicated, versioned key-value store: Raft over redb.
//!
//! What others use is [`Kv`] (data) and [`Store`] (membership, life).

pub mod admin_api;
mod announce;
pub mod api;
mod append_order;
mod ask;
mod barrier;
mod blocks;
mod bolt;
mod codec;
mod commitment;
mod disk;
mod etcd_kv;
mod footing;
mod forward;
mod forward_queue;
mod generation;
mod health;
mod incoming;
mod kv;
mod lag;
mod leases;
mod lend;
mod live_copy;
mod loan;
mod log;
mod log_lines;
mod maintenance;
mod measured;
mod member;
mod members;
mod membership;
mod message;
mod modes;
mod offline;
mod outbound;
mod propose;
mod quorum;
mod quorum_loss;
mod quorum_watch;
mod raft_network;
mod read_gate;
mod receive;
mod repair;
mod runtime;
mod scrub;
mod shared;
mod small_file;
pub mod snapshot_file;
mod space;
mod state;
mod status;
mod tell_generation;
#[cfg(test)]
pub(crate) mod tests;
mod types;
mod users;
mod watch;

pub use api::{
    EtcdKv, Facet, Interest, Kv, PeerError, PeerNetwork, PeerTarget, StoreError, WatchStream,
};
pub use codec::CodecError;
pub use commitment::{Commitment, CommitmentNote};
pub use disk::{DiskSpace, DiskWork, HostDisk, StoreDisk};
pub use generation::{FenceError, GenerationTrust};
pub use lag::{CenterLag, LeaderView};
pub use log::LogError;
pub use log_lines::LogLine;
pub use measured::{Measured, PeerLabel};
pub use member::{OpenError, Store, StoreConfig, StoreDeps, StoreTuning};
pub use modes::{Replication, Standing};
pub use offline::{
    CheckReport, Finding, Founding, OfflineError, Replay, StoppedMember, found_member,
};
pub use quorum_loss::QuorumLoss;
pub use repair::RepairError;
pub use runtime::seed_this_thread;
pub use snapshot_file::SnapshotFormat;
pub use state::{StateError, StateRest};
pub use status::{MemberInfo, StoreStatus};
