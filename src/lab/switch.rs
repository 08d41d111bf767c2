//! The lab's network between its hosts: for each segment a namespace with a bridge, and a
//! way out that leads nowhere.
//!
//! ```text
//!  one segment:    hosts ── bridge of the switch ── outside
//!  several:        hosts ── bridge of router-a ── outside        links: wan
//!                            │ cable
//!                           switch: whoever looks in from the machine
//! ```
//! Why a process holds each: a namespace lives as long as something is in it; a process is
//! found again through its control group, and needs no mount on the machine. Why the switch
//! has a cable to every router: an operator's console reaches each center whatever is cut
//! between them.
//!
//! Packets that no host of the lab is meant by take the default route to link `outside`,
//! which counts them and loses them: the count is what "no outbound packet" is shown by.

use std::net::Ipv4Addr;

use super::error::LabError;
use super::layout::{Segment, hardware_address, inner_ranges, pod_ranges};
use super::{Lab, require_root};
use crate::sys::cgroup::Group;
use crate::sys::namespaces::{NetworkNamespace, spawn_fresh, unshare_network};
use crate::sys::netlink::{Links, set_sysctl};

pub(super) const BRIDGE: &str = "lab0";
const OUTSIDE: &str = "outside";
/// The switch's control group below the lab's.
const GROUP: &str = "switch";
/// A router's cable to the switch.
const CABLE: &str = "to-switch";

/// What a namespace's process does: it is there until it is killed.
pub fn hold_switch() -> ! {
    loop {
        std::thread::park();
    }
}

fn held_by(group: &Group) -> Result<NetworkNamespace, LabError> {
    let holder = group.processes().into_iter().next();
    Ok(NetworkNamespace::of_process(holder.ok_or(LabError::NoSwitch)?)?)
}

impl Lab {
    /// The segments, each with the control group of whoever holds its router.
    pub(super) fn routers(&self) -> Vec<(Segment, Group)> {
        let segments = self.record.layout.segments();
        let alone = segments.len() == 1;
        let group = |segment: &Segment| {
            let name = if alone { GROUP.to_owned() } else { format!("router-{}", segment.name) };
            self.record.group.child(&name)
        };
        segments.into_iter().map(|segment| (segment.clone(), group(&segment))).collect()
    }

    /// The segment of an address, and its router's namespace.
    pub(super) fn router_of(
        &self,
        address: Ipv4Addr,
    ) -> Result<(Segment, NetworkNamespace), LabError> {
        let found = self.routers().into_iter().find(|(one, _)| one.range.contains(&address));
        let (segment, group) = found.ok_or(LabError::NoSwitch)?;
        Ok((segment, held_by(&group)?))
    }

    /// The namespace that sees every host, if all of the network is there.
    pub(super) fn switch(&self) -> Result<NetworkNamespace, LabError> {
        for (_, group) in self.routers() {
            held_by(&group)?;
        }
        held_by(&self.record.group.child(GROUP))
    }

    /// Makes the switch and the routers unless they are there.
    pub(super) fn ensure_switch(&self) -> Result<(), LabError> {
        require_root()?;
        let routers = self.routers();
        if let [(segment, group)] = routers.as_slice() {
            return self.ensure_held(group, || self.lay_router(segment));
        }
        let switch = self.record.group.child(GROUP);
        self.ensure_held(&switch, || lay_silence().map(drop))?;
        let console = held_by(&switch)?;
        for (segment, group) in routers {
            self.ensure_held(&group, || self.lay_router(&segment))?;
            plug_console(&segment, &held_by(&group)?, &console)?;
        }
        Ok(())
    }

    /// Makes a namespace that a process of `group` holds, unless there is one; `lay` sets
    /// it up.
    fn ensure_held(
        &self,
        group: &Group,
        lay: impl FnOnce() -> Result<(), LabError> + Send,
    ) -> Result<(), LabError> {
        if held_by(group).is_ok() {
            return Ok(());
        }
        let mut command = self.command_in(group, &["lab", "switch"])?;
        // The child starts in the namespace of the thread that starts it.
        let made = std::thread::scope(|scope| {
            let work = scope.spawn(move || -> Result<(), LabError> {
                unshare_network()?;
                lay()?;
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
        let mut packets = 0;
        for (_, group) in self.routers() {
            packets += held_by(&group)?.run(|| Links::open()?.packets_sent(OUTSIDE))??;
        }
        Ok(packets)
    }

    /// Sets up the calling thread's own, empty network namespace as a segment's router.
    fn lay_router(&self, segment: &Segment) -> Result<(), LabError> {
        let links = lay_silence()?;
        set_sysctl("ipv4/ip_forward", "1")?;
        links.add_bridge(BRIDGE)?;
        links.add_address(BRIDGE, segment.gateway(), segment.range.prefix_len())?;
        links.add_sink(OUTSIDE, "nowhere")?;
        // Of those that are the segment's own nothing is left to say.
        for range in inner_ranges().into_iter().filter(|range| *range != segment.range) {
            links.route_unreachable(range)?;
        }
        if self.is_routed() {
            // As the bank's router learns them; hosts of other segments come this way.
            for (range, host) in pod_ranges(&self.record.hosts, &segment.name).1 {
                links.route_via(range, host)?;
            }
        }
        links.route_default_out(OUTSIDE)?;
        Ok(())
    }

    /// Whether there are several segments.
    pub(super) fn is_routed(&self) -> bool {
        self.record.layout.segments().len() > 1
    }
}

/// A namespace in which nobody speaks by himself, or his own words would be counted.
fn lay_silence() -> Result<Links, LabError> {
    set_sysctl("ipv6/conf/all/disable_ipv6", "1")?;
    set_sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    let links = Links::open()?;
    links.set_up("lo")?;
    Ok(links)
}

/// Connects the switch to a router's bridge.
fn plug_console(
    segment: &Segment,
    router: &NetworkNamespace,
    console: &NetworkNamespace,
) -> Result<(), LabError> {
    let peer = format!("seg-{}", segment.name);
    let hardware = hardware_address(segment.console());
    router.run(|| {
        let links = Links::open()?;
        // The far end goes with it; the switch may be another than before.
        links.remove(CABLE)?;
        links.add_cable(CABLE, BRIDGE, &peer, hardware, console)
    })??;
    Ok(console.run(|| {
        let links = Links::open()?;
        links.add_address(&peer, segment.console(), segment.range.prefix_len())?;
        links.set_up(&peer)
    })??)
}
