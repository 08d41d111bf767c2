//! What can go wrong in a lab.

use std::io;
use std::path::PathBuf;

use super::layout::LayoutError;
use crate::bundle::{BundleError, KeyError};
use crate::sys::cgroup::CgroupError;
use crate::sys::mounts::MountError;
use crate::sys::namespaces::NamespaceError;
use crate::sys::netlink::NetlinkError;

#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error("a lab needs root: it makes namespaces and control groups")]
    NotRoot,
    #[error("the bundle cannot be used (--bundle, --trust); nothing was done")]
    Bundle(#[source] BundleError),
    #[error("the key cannot be used (--trust); nothing was done")]
    Key(#[source] KeyError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("there is no lab in {dir}; `holdfast lab up` makes one, --dir names another")]
    NoLab { dir: PathBuf },
    #[error("{dir} is not empty and holds no lab; give a directory of its own")]
    Foreign { dir: PathBuf },
    #[error(
        "{dir} holds a lab of layout {found} already; take it down first or name another --dir"
    )]
    OtherLayout { dir: PathBuf, found: super::layout::Layout },
    #[error("{path} has record format {found}, which this version does not know")]
    Format { path: PathBuf, found: u32 },
    #[error("{path} is damaged")]
    Record {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the lab has no host {name}; there are {known}")]
    NoHost { name: String, known: String },
    #[error("the lab has no link from {from} to {to}; its centers with links are {known}")]
    NoLink { from: String, to: String, known: String },
    #[error("host {host} is {state}")]
    WrongState { host: String, state: &'static str },
    #[error("cannot {action}")]
    Files {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot start {what}")]
    Start {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("host {host}")]
    Host {
        host: String,
        #[source]
        source: Box<LabError>,
    },
    #[error("{what} did not answer within {limit_seconds} s; its last words:\n{log}")]
    Silent { what: String, limit_seconds: u64, log: String },
    #[error("on {host}, `{command}` failed with {outcome}\n{output}")]
    Command { host: String, command: String, outcome: String, output: String },
    #[error("on {host}, the answer of `{command}` is not what was expected: {reason}")]
    Answer { host: String, command: String, reason: String },
    #[error("the nodes were not all ready within {limit_seconds} s: {last}")]
    NotReady { limit_seconds: u64, last: String },
    #[error("the switch of this lab, or a router, is gone; take the lab down")]
    NoSwitch,
    #[error("control groups of the lab")]
    Groups(#[from] CgroupError),
    #[error("namespaces of the lab")]
    Namespaces(#[from] NamespaceError),
    #[error("mounts of the lab")]
    Mounts(#[from] MountError),
    #[error("network of the lab")]
    Network(#[from] NetlinkError),
}

impl LabError {
    /// Whether another command line is the remedy; nothing was changed then.
    pub fn is_usage(&self) -> bool {
        match self {
            LabError::NotRoot
            | LabError::Bundle(_)
            | LabError::Key(_)
            | LabError::Layout(_)
            | LabError::NoLab { .. }
            | LabError::Foreign { .. }
            | LabError::OtherLayout { .. }
            | LabError::NoHost { .. }
            | LabError::NoLink { .. } => true,
            LabError::Format { .. }
            | LabError::Record { .. }
            | LabError::WrongState { .. }
            | LabError::Files { .. }
            | LabError::Start { .. }
            | LabError::Host { .. }
            | LabError::Silent { .. }
            | LabError::Command { .. }
            | LabError::Answer { .. }
            | LabError::NotReady { .. }
            | LabError::NoSwitch
            | LabError::Groups(_)
            | LabError::Namespaces(_)
            | LabError::Mounts(_)
            | LabError::Network(_) => false,
        }
    }
}

/// For `map_err` on file operations.
pub(crate) fn files(action: &'static str) -> impl FnOnce(io::Error) -> LabError {
    move |source| LabError::Files { action, source }
}
