//! A cluster file while it is read: what could be read, where it stood, what is wrong.
//!
//! Unreadable parts are absent, so that later checks do not repeat the complaint.
//! Not here: reading (`cluster_check`), judging (`cluster_rules`).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::cluster::Problem;
use crate::model::commit_mode::CommitMode;
use crate::model::node_config::Role;
use crate::model::threshold::EvictionThresholds;

/// Collects problems while the tree is read.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

impl Findings {
    pub(crate) fn problem(&mut self, line: u64, path: &str, message: impl Into<String>) {
        self.problems.push(Problem { line, path: path.to_owned(), message: message.into() });
    }

    pub(crate) fn warning(&mut self, line: u64, path: &str, message: impl Into<String>) {
        self.warnings.push(Problem { line, path: path.to_owned(), message: message.into() });
    }
}

/// A value that was read, with where it stood.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) line: u64,
    pub(crate) path: String,
}

/// The file as read, before the checks between values; unreadable parts are absent.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) name: Option<At<String>>,
    pub(crate) pod_range: Option<At<IpNet>>,
    pub(crate) node_prefix: Option<At<u8>>,
    pub(crate) service_range: Option<At<IpNet>>,
    pub(crate) cluster_domain: Option<At<String>>,
    pub(crate) eviction: EvictionThresholds,
    pub(crate) commit_mode: Option<At<CommitMode>>,
    pub(crate) sites: Vec<DraftSite>,
    pub(crate) sites_line: u64,
}

#[derive(Debug)]
pub(crate) struct DraftSite {
    pub(crate) name: Option<At<String>>,
    pub(crate) centers: Vec<DraftCenter>,
}

#[derive(Debug)]
pub(crate) struct DraftCenter {
    pub(crate) line: u64,
    pub(crate) path: String,
    pub(crate) name: Option<At<String>>,
    pub(crate) pod_range: Option<At<IpNet>>,
    pub(crate) nodes: Vec<DraftNode>,
}

#[derive(Debug)]
pub(crate) struct DraftNode {
    pub(crate) name: Option<At<String>>,
    pub(crate) address: Option<At<IpAddr>>,
    pub(crate) roles: Vec<Role>,
}
