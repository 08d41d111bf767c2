//! The lab's network between its hosts: one namespace with a bridge, and a way out that
//! leads nowhere.
//!
//! Why a process holds it: a namespace lives as long as something is in it; a process is
//! found again through its control group, and needs no mount on the machine.
//!
//! Packets that no host of the lab is meant by take the default route to link `outside`,
//! which counts them and loses them: the count is what "no outbound packet" is shown by.

use std::process::Stdio;

use super::command::own_process_group;
use super::error::{LabError, files};
use super::layout::{GATEWAY, SEGMENT, inner_ranges};
use super::{Lab, require_root};
use crate::base::limits;
use crate::sys::namespaces::{NetworkNamespace, join_before_exec, spawn_fresh, unshare_network};
use crate::sys::netlink::{Links, set_sysctl};
use crate::sys::tree;

pub(super) const BRIDGE: &str = "lab0";
const OUTSIDE: &str = "outside";
/// Its control group below the lab's.
const GROUP: &str = "switch";

/// What the switch's process does: it is there until it is killed.
pub fn hold_switch() -> ! {
    loop {
        std::thread::park();
    }
}

impl Lab {
    /// The switch's namespace, if the switch is there.
    pub(super) fn switch(&self) -> Result<NetworkNamespace, LabError> {
        let holder = self.record.group.child(GROUP).processes().into_iter().next();
        let holder = holder.ok_or(LabError::NoSwitch)?;
        Ok(NetworkNamespace::of_process(holder)?)
    }

    /// Makes the switch unless it is there.
    pub(super) fn ensure_switch(&self) -> Result<(), LabError> {
        require_root()?;
        if self.switch().is_ok() {
            return Ok(());
        }
        let group = self.record.group.child(GROUP);
        // The child of one that was killed a moment ago may still be on its way in.
        group.clear(limits::LAB_KILL)?;
        group.make()?;
        let entrances = group.entrances()?;
        let log = tree::open_log(&self.dir.daemon_log()).map_err(files("open the daemon's log"))?;
        let mut command = self.program.command(self.dir.program(), &["lab", "switch"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        own_process_group(&mut command);
        join_before_exec(&mut command, entrances);
        // The child starts in the namespace of the thread that starts it.
        let made = std::thread::scope(|scope| {
            let work = scope.spawn(move || -> Result<(), LabError> {
                unshare_network()?;
                lay_network()?;
                spawn_fresh(&mut command)
                    .map(drop)
                    .map_err(|source| LabError::Start { what: "the switch".to_owned(), source })
            });
            work.join()
        });
        match made {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Packets that left the lab's own ranges since the lab was made.
    pub(super) fn outbound_packets(&self) -> Result<u64, LabError> {
        Ok(self.switch()?.run(|| Links::open()?.packets_sent(OUTSIDE))??)
    }
}

/// Sets up the calling thread's own, empty network namespace.
fn lay_network() -> Result<(), LabError> {
    // The switch itself must not speak, or its own words would be counted.
    set_sysctl("ipv6/conf/all/disable_ipv6", "1")?;
    set_sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    set_sysctl("ipv4/ip_forward", "1")?;
    let links = Links::open()?;
    links.set_up("lo")?;
    links.add_bridge(BRIDGE)?;
    links.add_address(BRIDGE, GATEWAY, SEGMENT.1)?;
    links.add_sink(OUTSIDE, "nowhere")?;
    for range in inner_ranges() {
        links.route_unreachable(range)?;
    }
    links.route_default_out(OUTSIDE)?;
    Ok(())
}
