//! Gathers what `logic/preflight` judges. Changes nothing on the host: what is written to try
//! the disk is a file without a name.

mod facts;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::logic::preflight::{Finding, HostNeeds, judge, judge_all};
use crate::model::node_config::{Paths, Ports};
use crate::model::threshold::EvictionThresholds;
use crate::sys::host_files::HostFiles;

/// What preflight is asked.
#[derive(Clone, Debug)]
pub struct PreflightInput {
    pub node_name: String,
    pub address: IpAddr,
    pub paths: Paths,
    pub ports: Ports,
    /// Where the bundle's engine is unpacked.
    pub engine: PathBuf,
    /// Bytes that the bundle will take, on each of the file systems it goes to.
    pub space_bytes: u64,
    /// When the node will end pods, or take none.
    pub eviction: EvictionThresholds,
    /// An unfinished installation of this same node is there.
    pub resuming: bool,
    /// Networks that the cluster takes for pods and Services, as far as they are known.
    pub ranges: Vec<IpNet>,
    /// The cluster's clock, when there is a cluster to ask.
    pub cluster_time: Option<Timestamp>,
}

/// Looks at this host and says everything at once.
pub fn preflight(input: &PreflightInput) -> Vec<Finding> {
    judge(&facts::gather(&HostFiles::here(), input), &needs(input))
}

/// The same and what is in order.
pub fn preflight_whole(input: &PreflightInput) -> Vec<Finding> {
    judge_all(&facts::gather(&HostFiles::here(), input), &needs(input))
}

fn needs(input: &PreflightInput) -> HostNeeds {
    HostNeeds {
        node_name: input.node_name.clone(),
        address: input.address.to_string(),
        space_bytes: input.space_bytes,
        pods_need_free: input.eviction.nodefs_available,
        ranges: input.ranges.clone(),
        resuming: input.resuming,
    }
}
