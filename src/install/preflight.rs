//! Gathers what `logic/preflight` judges. Changes nothing on the host.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::logic::preflight::{Finding, HostFacts, HostNeeds, judge};
use crate::model::node_config::{Paths, Ports};
use crate::model::threshold::EvictionThresholds;
use crate::sys::clock;
use crate::sys::host::{self, Cgroups};
use crate::sys::{files, services, systemd};

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
    /// The cluster's clock, when there is a cluster to ask.
    pub cluster_time: Option<Timestamp>,
}

/// Looks at this host and says everything at once.
pub fn preflight(input: &PreflightInput) -> Vec<Finding> {
    let needs = HostNeeds {
        node_name: input.node_name.clone(),
        address: input.address.to_string(),
        space_bytes: input.space_bytes,
        pods_need_free: input.eviction.nodefs_available,
        resuming: input.resuming,
    };
    judge(&gather(input), &needs)
}

fn gather(input: &PreflightInput) -> HostFacts {
    let system = host::system_name();
    let file_system = host::file_system(&input.paths.data).ok();
    let apart = !host::same_file_system(&input.paths.data, &input.engine);
    let has = |module: &str| host::has_module(module) || host::can_load_module(module);
    let built_in = |module: &str, function: &str| has(module) || host::has_kernel_symbol(function);
    HostFacts {
        root: host::is_root(),
        machine: system.machine,
        kernel: system.kernel,
        hostname: system.hostname,
        cgroups: host::cgroups() != Cgroups::None,
        overlay: host::knows_file_system("overlay") || has("overlay"),
        bridge: built_in("bridge", "br_add_if"),
        veth: built_in("veth", "veth_newlink")
            || Path::new("/sys/class/net").is_dir() && in_own_network(),
        nftables: built_in("nf_tables", "nft_do_chain"),
        apparmor_alone: Path::new("/sys/kernel/security/apparmor").exists()
            && !host::has_program("apparmor_parser"),
        memory_bytes: host::memory_bytes().map_or(0, |(total, _)| total),
        data_dir: input.paths.data.display().to_string(),
        data_free_bytes: file_system.as_ref().map_or(0, |found| found.free_bytes),
        data_total_bytes: file_system.as_ref().map_or(0, |found| found.total_bytes),
        data_file_system: file_system.map_or_else(|| "unknown".into(), |found| found.kind),
        engine_dir: input.engine.display().to_string(),
        engine_free_bytes: apart
            .then(|| host::file_system(&input.engine).map_or(0, |found| found.free_bytes)),
        busy_ports: busy_ports(input),
        addresses: host::interface_addresses().iter().map(|(_, ip)| ip.to_string()).collect(),
        foreign_install: foreign_install(&input.paths),
        host_docker: ["/var/run/docker.sock", "/run/podman/podman.sock"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .map(ToOwned::to_owned),
        service_manager: service_manager(),
        clock_ahead_s: input
            .cluster_time
            .map(|theirs| clock::now().as_second() - theirs.as_second()),
    }
}

/// A host whose only way out is a veth pair proves that the kernel has them.
fn in_own_network() -> bool {
    host::is_lab_host()
}

fn service_manager() -> Option<String> {
    if Path::new(services::CONTROL_SOCKET).exists() {
        Some("holdfast-init".into())
    } else if systemd::Systemd::is_running_here() {
        Some("systemd".into())
    } else {
        None
    }
}

fn busy_ports(input: &PreflightInput) -> Vec<(u16, String)> {
    let ports = &input.ports;
    [ports.api, ports.etcd, ports.peer, ports.registry]
        .into_iter()
        .filter_map(|port| {
            let address = SocketAddr::new(input.address, port);
            match host::try_listen(address) {
                Ok(()) => None,
                // Said once, by the check of the address itself.
                Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => None,
                Err(error) => Some((port, error.to_string())),
            }
        })
        .collect()
}

/// Something under our directories that this installation did not put there. The
/// service directory may exist: our own PID 1 makes it. So may what a new file system has.
fn foreign_install(paths: &Paths) -> Option<String> {
    let own = Path::new(services::SERVICE_DIR);
    let first = |dir: &Path| {
        let found = files::list_dir(dir).unwrap_or_default().into_iter();
        let new = |path: &Path| path.file_name().is_some_and(|name| name == "lost+found");
        found.filter(|path| path != own && !new(path)).find(|path| !files::is_leftover(path))
    };
    first(&paths.config).or_else(|| first(&paths.data)).map(|path| path.display().to_string())
}
