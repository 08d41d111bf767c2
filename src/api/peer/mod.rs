//! Node to node on port 2380: store messages and registry blobs, over mTLS HTTP/2.
//!
//! Only certificates of the cluster's control nodes are let in; the store checks cluster,
//! generation and member inside its messages itself.

mod client;
mod server;

pub use client::{HttpPeers, PeerClientError};
pub use server::{PeerServices, router};

/// Where store messages are posted.
pub(crate) const MESSAGE_PATH: &str = "/holdfast/v1/peer/message";
/// Where a blob of the registry is read; the digest follows.
pub(crate) const BLOB_PATH: &str = "/holdfast/v1/peer/blobs/";
