//! Node to node on port 2380 over mTLS: store messages in frames on a kept connection,
//! registry blobs over HTTP/2.
//!
//! Only certificates of the cluster's control nodes are let in; the store checks cluster,
//! generation and member inside its messages itself.

mod client;
mod frames;
mod link;
mod server;
mod session;
#[cfg(test)]
mod tests;

pub use client::{PeerClient, PeerClientError};
pub use server::{PeerServices, router};

/// Where a connection is made one of store messages.
pub(crate) const MESSAGE_PATH: &str = "/holdfast/v1/peer/messages";
/// Where a blob of the registry is read; the digest follows.
pub(crate) const BLOB_PATH: &str = "/holdfast/v1/peer/blobs/";
