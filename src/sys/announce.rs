//! Addresses that stand on a link for a while, and saying so to its neighbours.
//!
//! Why for a while: a program that dies or freezes cannot take its addresses back; the
//! kernel does when their time is over. Why frames of our own: the kernel announces
//! addresses only when a link comes up, and neighbours would go on sending to the node
//! that had the address before.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket,
};
use rtnetlink::packet_route::AddressFamily as Family;
use rtnetlink::packet_route::address::{AddressAttribute, AddressScope, CacheInfo};
use rtnetlink::packet_route::link::LinkAttribute;

use crate::sys::rtnl::{Rtnl, RtnlError, failed};

const ARP: u16 = 0x0806;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const EVERYBODY: [u8; 6] = [0xff; 6];

/// A link that an address can be announced on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) index: u32,
    mac: [u8; 6],
}

/// The link whose network holds an address, else the one with the node's own address.
pub(crate) async fn segment_of(
    address: Ipv4Addr,
    node_address: Ipv4Addr,
) -> Result<Option<Segment>, RtnlError> {
    let rtnl = Rtnl::open()?;
    let action = || format!("look for the segment of {address}");
    let mut addresses = rtnl.handle.address().get().execute();
    let (mut holding, mut own) = (None, None);
    while let Some(found) = addresses.try_next().await.map_err(|error| failed(action(), error))? {
        if found.header.family != Family::Inet {
            continue;
        }
        let local = found.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(local) => match local {
                std::net::IpAddr::V4(local) => Some(*local),
                std::net::IpAddr::V6(_) => None,
            },
            _ => None,
        });
        let Some(local) = local else { continue };
        if local == node_address {
            own = Some(found.header.index);
        }
        let net = Ipv4Net::new(local, found.header.prefix_len).ok();
        if found.header.prefix_len < 32 && net.is_some_and(|net| net.contains(&address)) {
            holding = Some(found.header.index);
        }
    }
    let Some(index) = holding.or(own) else { return Ok(None) };
    let mut links = rtnl.handle.link().get().match_index(index).execute();
    let link = links.try_next().await.map_err(|error| failed(action(), error))?;
    let mac = link.and_then(|link| {
        link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes).ok(),
            _ => None,
        })
    });
    Ok(mac.map(|mac| Segment { index, mac }))
}

/// Gives the link an address that goes by itself after so many seconds; for one that it
/// has, the time begins again.
pub(crate) async fn lend_address(
    index: u32,
    address: Ipv4Addr,
    valid_s: u32,
) -> Result<(), RtnlError> {
    let rtnl = Rtnl::open()?;
    let mut request = rtnl.handle.address().add(index, address.into(), 32).replace();
    let message = request.message_mut();
    message.header.scope = AddressScope::Universe;
    let mut lifetime = CacheInfo::default();
    (lifetime.ifa_preferred, lifetime.ifa_valid) = (valid_s, valid_s);
    message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    request.execute().await.map_err(|error| failed(format!("lend address {address}"), error))
}

/// Takes it away before its time.
pub(crate) async fn take_address(index: u32, address: Ipv4Addr) -> Result<(), RtnlError> {
    Rtnl::open()?.remove_address(index, address).await
}

/// Tells all neighbours where the address is, in both forms that are understood.
pub(crate) fn tell_neighbours(segment: Segment, address: Ipv4Addr) -> Result<(), Errno> {
    let link = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let target = link_address(segment.index);
    for operation in [REQUEST, REPLY] {
        let frame = frame(segment.mac, address, operation);
        sendto(link.as_raw_fd(), &frame, &target, MsgFlags::empty())?;
    }
    Ok(())
}

/// An Ethernet frame with the announcement in it.
fn frame(mac: [u8; 6], address: Ipv4Addr, operation: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(EVERYBODY);
    frame.extend(mac);
    frame.extend(ARP.to_be_bytes());
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend(EVERYBODY);
    frame.extend(address.octets());
    frame
}

#[expect(unsafe_code, reason = "the library reads link addresses and makes none")]
fn link_address(index: u32) -> LinkAddr {
    let raw = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: ARP.to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    };
    let length = std::mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer is to a whole sockaddr_ll that lives through the call, which
    // copies it, and the length is its own.
    let made = unsafe { LinkAddr::from_raw((&raw const raw).cast(), Some(length)) };
    made.expect("a whole sockaddr_ll of its family is a link address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_names_the_address_twice() {
        let frame = frame([2, 0, 0, 0, 0, 9], Ipv4Addr::new(192, 0, 2, 7), REPLY);
        assert_eq!(frame.len(), 42);
        assert_eq!(hex::encode(&frame[..22]), "ffffffffffff02000000000908060001080006040002");
        assert_eq!(hex::encode(&frame[22..]), "020000000009c0000207ffffffffffffc0000207");
        assert_eq!(link_address(7).ifindex(), 7);
    }
}
