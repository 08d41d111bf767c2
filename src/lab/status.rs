//! What of a lab runs, found out anew each time.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Serialize;

use super::error::{LabError, files};
use super::host::Host;
use super::layout::Layout;
use super::record::Forwards;
use super::wan::Way;
use super::{Lab, require_root};
use crate::sys::services::{SERVICE_DIR, ServiceRequest};
use crate::sys::tree;

/// One lab.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LabStatus {
    pub dir: PathBuf,
    pub layout: Layout,
    /// Everything that should run does.
    pub healthy: bool,
    /// The network between the hosts.
    pub switch_running: bool,
    /// What carries packets from center to center; absent where all are in one segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links_running: Option<bool>,
    /// Each direction of each link between centers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Way>,
    /// The way in from 127.0.0.1.
    pub daemon_running: bool,
    /// Packets that left the lab's own ranges; absent when the switch is gone.
    pub outbound_packets: Option<u64>,
    pub forwards: Option<Forwards>,
    pub hosts: Vec<HostStatus>,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    pub name: String,
    pub center: String,
    pub address: Ipv4Addr,
    pub state: HostState,
    /// Its PID 1 by the machine's numbers.
    pub pid: Option<i32>,
    pub processes: usize,
    /// Empty while it is not running.
    pub services: Vec<ServiceStatus>,
}

/// What a host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    Running,
    /// Frozen by `lab fault stop`.
    Stopped,
    /// Killed, or ended by itself.
    Down,
}

/// One service of a host's PID 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    pub name: String,
    pub running: bool,
}

impl Lab {
    /// Looks at everything.
    pub fn status(&self) -> Result<LabStatus, LabError> {
        require_root()?;
        let switch_running = self.switch().is_ok();
        let links_running = self.is_routed().then(|| self.links_pid().is_some());
        let daemon_running = self.daemon_pid().is_some();
        let outbound_packets = if switch_running { Some(self.outbound_packets()?) } else { None };
        let hosts: Vec<HostStatus> =
            self.each_host().map(|host| look(&host)).collect::<Result<_, _>>()?;
        let all_run = hosts.iter().all(|host| host.state == HostState::Running);
        Ok(LabStatus {
            dir: self.dir.path().to_owned(),
            layout: self.record.layout,
            healthy: switch_running && daemon_running && all_run && links_running != Some(false),
            switch_running,
            links_running,
            links: self.ways()?.ways,
            daemon_running,
            outbound_packets,
            forwards: self.dir.read_forwards()?,
            hosts,
        })
    }
}

fn look(host: &Host<'_>) -> Result<HostStatus, LabError> {
    let pid = host.pid();
    let state = match pid {
        None => HostState::Down,
        Some(_) if host.group().is_frozen() => HostState::Stopped,
        Some(_) => HostState::Running,
    };
    let services = if state == HostState::Running { services(host)? } else { Vec::new() };
    Ok(HostStatus {
        name: host.name().to_owned(),
        center: host.plan().center.clone(),
        address: host.address(),
        state,
        pid,
        processes: host.group().processes().len(),
        services,
    })
}

fn services(host: &Host<'_>) -> Result<Vec<ServiceStatus>, LabError> {
    let dir = host.root().join(SERVICE_DIR.trim_start_matches('/'));
    let files = tree::list(&dir).map_err(files("list a host's services"))?;
    let names = files.iter().filter_map(|file| file.strip_suffix(".yaml"));
    let Some(init) = host.init() else { return Ok(Vec::new()) };
    let ask = |name: &str| {
        let request = ServiceRequest::Status { name: name.to_owned() };
        let running = init.ask(&request).is_ok_and(|answer| answer.running);
        ServiceStatus { name: name.to_owned(), running }
    };
    Ok(names.map(ask).collect())
}
