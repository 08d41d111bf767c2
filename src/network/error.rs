//! What can go wrong in the network.

use std::path::PathBuf;

use ipnet::Ipv4Net;

use crate::sys::files::FileError;
use crate::sys::in_netns::NetNsError;
use crate::sys::nft::NftError;
use crate::sys::pod_link::PodLinkError;
use crate::sys::rtnl::RtnlError;
use crate::sys::sysctl::SysctlError;

/// Why the network did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("the {what} {value} is not IPv4, which is all that the pod network does")]
    NotIpv4 { what: &'static str, value: String },
    #[error("no free address left in {range}")]
    Exhausted { range: Ipv4Net },
    #[error("cannot read the address ledger {path}")]
    ReadLedger {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the address ledger {path} is damaged")]
    DamagedLedger {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot write the address ledger {path}")]
    WriteLedger {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot find the network namespace of pod {pod_uid}")]
    PodNamespace {
        pod_uid: String,
        #[source]
        source: NetNsError,
    },
    #[error("cannot connect pod {pod_uid}")]
    Attach {
        pod_uid: String,
        #[source]
        source: PodLinkError,
    },
    #[error("cannot disconnect pod {pod_uid}")]
    Detach {
        pod_uid: String,
        #[source]
        source: PodLinkError,
    },
    #[error("the network policies for pod {pod_uid} do not stand yet")]
    Unguarded { pod_uid: String },
    #[error("cannot prepare the host's network")]
    Host(#[source] RtnlError),
    #[error("cannot switch on forwarding")]
    Forwarding(#[from] SysctlError),
    #[error("cannot look for the packet filter's program")]
    Program(#[from] FileError),
    #[error("cannot change the balancing rules")]
    Ruleset(#[from] NftError),
    #[error("cannot list or change routes")]
    Routes(#[source] RtnlError),
    #[error("cannot listen for DNS at {address}")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
}
