//! What the agent needs from others on its own floor; `app/wire` passes these in.

use std::net::IpAddr;

use async_trait::async_trait;

use crate::logic::balance::VirtualPort;

/// Connects pods to the network. Implemented by `network/`.
#[async_trait]
pub trait PodNetwork: Send + Sync + std::fmt::Debug + 'static {
    /// Gives the sandbox (whose network namespace is that of process `pid`) its address,
    /// link and routes. Repeating it for the same pod gives the same address.
    async fn attach(&self, pod_uid: &str, pid: i32) -> Result<IpAddr, PodNetworkError>;

    /// Takes address and link back; repeating it is no error.
    async fn detach(&self, pod_uid: &str) -> Result<(), PodNetworkError>;

    /// Makes the node's ports lead to a pod that is attached, until it is detached; an
    /// address of 0.0.0.0 stands for the node's own.
    async fn publish(&self, pod_uid: &str, ports: Vec<VirtualPort>);

    /// Uids of the pods that hold an address, for collection after a crash.
    async fn attached(&self) -> Result<Vec<String>, PodNetworkError>;

    /// What goes into the pods' `resolv.conf`: server, search domains are the agent's.
    fn dns_server(&self) -> IpAddr;
}

#[derive(Debug, thiserror::Error)]
pub enum PodNetworkError {
    #[error("no free address left in {range}")]
    Exhausted { range: String },
    #[error("cannot connect pod {pod_uid}: {reason}")]
    Attach { pod_uid: String, reason: String },
    #[error("cannot disconnect pod {pod_uid}: {reason}")]
    Detach { pod_uid: String, reason: String },
    #[error("cannot read the address ledger: {reason}")]
    Ledger { reason: String },
}

/// Turns an image name of a pod into one the engine can pull from this node's registry
/// by digest. Implemented over `registry/`.
#[async_trait]
pub trait ImageSource: Send + Sync + std::fmt::Debug + 'static {
    /// `"hello:1"` becomes `"10.0.0.1:5000/hello@sha256:…"`.
    async fn resolve(&self, image: &str) -> Result<ResolvedImage, ImageError>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// What to hand to the engine's pull.
    pub pull: String,
    /// `sha256:…` of the manifest.
    pub digest: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The kubelet's `ErrImageNeverPull`-like case: no center holds it.
    #[error("image {image} is not in the registry")]
    Absent { image: String },
    #[error("image name {image} is not valid: {reason}")]
    Invalid { image: String, reason: String },
    #[error("cannot look up image {image}: {reason}")]
    Lookup { image: String, reason: String },
}
