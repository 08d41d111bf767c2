//! Links, addresses and routes of the network namespace that the calling thread is in.
//!
//! Why blocking: the callers are short set-up steps on threads that were moved into a
//! namespace (see `sys/namespaces`); each call here brings its own small runtime, because
//! a netlink socket belongs to the namespace in which it was opened.
//!
//! Not here: packet filtering and the pods' links (network/).

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use crate::sys::namespaces::NetworkNamespace;

#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot open a netlink socket")]
    Socket(#[source] io::Error),
    #[error("cannot {action} {what}")]
    Request {
        action: &'static str,
        what: String,
        #[source]
        source: Box<rtnetlink::Error>,
    },
    #[error("there is no link {name}")]
    NoLink { name: String },
    #[error("cannot set {path}")]
    Setting {
        path: String,
        #[source]
        source: io::Error,
    },
}

fn request(action: &'static str, what: &str) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    let what = what.to_owned();
    move |source| NetlinkError::Request { action, what, source: Box::new(source) }
}

/// The blocking operations; made on the thread whose namespace is meant.
pub struct Links {
    runtime: tokio::runtime::Runtime,
    handle: Handle,
    /// Owns the connection's task; dropped with the runtime.
    _tasks: tokio::task::JoinSet<()>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

impl Links {
    pub fn open() -> Result<Self, NetlinkError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(NetlinkError::Socket)?;
        let mut tasks = tokio::task::JoinSet::new();
        let handle = {
            let _inside = runtime.enter();
            let (connection, handle, _) =
                rtnetlink::new_connection().map_err(NetlinkError::Socket)?;
            tasks.spawn(connection);
            handle
        };
        Ok(Self { runtime, handle, _tasks: tasks })
    }

    /// Makes a bridge and brings it up.
    pub fn add_bridge(&self, name: &str) -> Result<(), NetlinkError> {
        let message = LinkBridge::new(name).up().build();
        let work = self.handle.link().add(message).execute();
        self.runtime.block_on(work).map_err(request("make bridge", name))
    }

    /// A bridge with an address; what of both is there already stays.
    pub fn ensure_bridge(&self, name: &str, address: Ipv4Net) -> Result<(), NetlinkError> {
        match self.index(name) {
            Err(NetlinkError::NoLink { .. }) => self.add_bridge(name)?,
            other => drop(other?),
        }
        match self.add_address(name, address.addr(), address.prefix_len()) {
            Err(NetlinkError::Request { source, .. }) if is_there(&source) => Ok(()),
            other => other,
        }
    }

    /// Makes a pair of connected links that resolve no neighbours: what is sent to `name`
    /// is counted and lost.
    pub fn add_sink(&self, name: &str, peer: &str) -> Result<(), NetlinkError> {
        let far = LinkMessageBuilder::<LinkUnspec>::default().name(peer).arp(false).build();
        let message = LinkVeth::new(name, peer)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .arp(false)
            .up()
            .build();
        let work = self.handle.link().add(message).execute();
        self.runtime.block_on(work).map_err(request("make link", name))?;
        // Not when it is made: the far end comes first and has nobody to talk to yet.
        self.set_up(peer)
    }

    /// Makes a link `name` here, plugged into bridge `bridge`, whose other end `peer` is
    /// in the namespace `other` and has the hardware address `hardware`.
    pub fn add_cable(
        &self,
        name: &str,
        bridge: &str,
        peer: &str,
        hardware: [u8; 6],
        other: &NetworkNamespace,
    ) -> Result<(), NetlinkError> {
        let controller = self.index(bridge)?;
        let far = LinkMessageBuilder::<LinkUnspec>::default()
            .name(peer)
            .address(hardware.to_vec())
            .setns_by_fd(other.as_fd().as_raw_fd())
            .build();
        let message = LinkVeth::new(name, peer)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .controller(controller)
            .up()
            .build();
        let work = self.handle.link().add(message).execute();
        self.runtime.block_on(work).map_err(request("make link", name))
    }

    pub fn set_up(&self, name: &str) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(self.index(name)?).up().build();
        let work = self.handle.link().set(message).execute();
        self.runtime.block_on(work).map_err(request("bring up link", name))
    }

    /// Removes a link; one that is not there is no error.
    pub fn remove(&self, name: &str) -> Result<(), NetlinkError> {
        let index = match self.index(name) {
            Err(NetlinkError::NoLink { .. }) => return Ok(()),
            other => other?,
        };
        let work = self.handle.link().del(index).execute();
        self.runtime.block_on(work).map_err(request("remove link", name))
    }

    pub fn add_address(
        &self,
        name: &str,
        address: Ipv4Addr,
        prefix: u8,
    ) -> Result<(), NetlinkError> {
        let index = self.index(name)?;
        let work = self.handle.address().add(index, IpAddr::V4(address), prefix).execute();
        self.runtime.block_on(work).map_err(request("add an address to", name))
    }

    /// Sends everything without a better route to `gateway`.
    pub fn route_default_via(&self, gateway: Ipv4Addr) -> Result<(), NetlinkError> {
        let message = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
        let work = self.handle.route().add(message).execute();
        self.runtime.block_on(work).map_err(request("route via", &gateway.to_string()))
    }

    /// Sends what is for `range` to `gateway`.
    pub fn route_via(&self, range: Ipv4Net, gateway: Ipv4Addr) -> Result<(), NetlinkError> {
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .gateway(gateway)
            .build();
        let work = self.handle.route().add(message).execute();
        self.runtime.block_on(work).map_err(request("route", &range.to_string()))
    }

    /// Sends what is for `range` out of link `name`.
    pub fn route_out(&self, range: Ipv4Net, name: &str) -> Result<(), NetlinkError> {
        let index = self.index(name)?;
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .output_interface(index)
            .build();
        let work = self.handle.route().add(message).execute();
        self.runtime.block_on(work).map_err(request("route", &range.to_string()))
    }

    /// Sends everything without a better route out of link `name`.
    pub fn route_default_out(&self, name: &str) -> Result<(), NetlinkError> {
        let index = self.index(name)?;
        let message = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).build();
        let work = self.handle.route().add(message).execute();
        self.runtime.block_on(work).map_err(request("route out of", name))
    }

    /// Answers packets for `range` that have no better route with "unreachable".
    pub fn route_unreachable(&self, range: Ipv4Net) -> Result<(), NetlinkError> {
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .kind(RouteType::Unreachable)
            .destination_prefix(range.network(), range.prefix_len())
            .build();
        let work = self.handle.route().add(message).execute();
        self.runtime.block_on(work).map_err(request("route", &range.to_string()))
    }

    /// Packets that left through link `name` since it was made.
    pub fn packets_sent(&self, name: &str) -> Result<u64, NetlinkError> {
        let message = self.find(name)?;
        let sent = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats.tx_packets),
            _ => None,
        });
        sent.ok_or_else(|| NetlinkError::NoLink { name: name.to_owned() })
    }

    fn index(&self, name: &str) -> Result<u32, NetlinkError> {
        Ok(self.find(name)?.header.index)
    }

    fn find(&self, name: &str) -> Result<rtnetlink::packet_route::link::LinkMessage, NetlinkError> {
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        match self.runtime.block_on(links.try_next()) {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(NetlinkError::NoLink { name: name.to_owned() }),
            Err(rtnetlink::Error::NetlinkError(error))
                if error.to_io().kind() == io::ErrorKind::NotFound
                    || error.raw_code() == -nix::libc::ENODEV =>
            {
                Err(NetlinkError::NoLink { name: name.to_owned() })
            }
            Err(source) => Err(request("look up link", name)(source)),
        }
    }
}

fn is_there(error: &rtnetlink::Error) -> bool {
    let code = match error {
        rtnetlink::Error::NetlinkError(error) => error.raw_code(),
        _ => 0,
    };
    code == -nix::libc::EEXIST
}

/// Sets a network setting (`net.ipv4.ip_forward` as `ipv4/ip_forward`) of the calling
/// thread's namespace.
pub fn set_sysctl(name: &str, value: &str) -> Result<(), NetlinkError> {
    let path = format!("/proc/sys/net/{name}");
    std::fs::write(&path, value).map_err(|source| NetlinkError::Setting { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::namespaces::unshare_network;

    /// Runs in a namespace of its own that ends with the thread.
    fn isolated(work: impl FnOnce(&Links) + Send) {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unshare_network().unwrap();
                work(&Links::open().unwrap());
            });
        });
    }

    #[test]
    fn packets_without_a_way_are_counted_at_the_sink() {
        isolated(|links| {
            set_sysctl("ipv6/conf/all/disable_ipv6", "1").unwrap();
            links.set_up("lo").unwrap();
            links.add_sink("outside", "nowhere").unwrap();
            links.add_address("outside", Ipv4Addr::new(192, 0, 2, 1), 32).unwrap();
            links.route_default_out("outside").unwrap();
            links.route_unreachable("10.244.0.0/16".parse().unwrap()).unwrap();
            assert_eq!(links.packets_sent("outside").unwrap(), 0);
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            assert!(socket.send_to(b"x", "10.244.3.3:9").is_err());
            assert_eq!(links.packets_sent("outside").unwrap(), 0);
            socket.send_to(b"x", "198.51.100.7:9").unwrap();
            assert_eq!(links.packets_sent("outside").unwrap(), 1);
        });
    }

    #[test]
    fn a_missing_link_is_named() {
        isolated(|links| {
            let error = links.set_up("eth7").unwrap_err();
            assert_eq!(error.to_string(), "there is no link eth7");
            links.remove("eth7").unwrap();
        });
    }
}
