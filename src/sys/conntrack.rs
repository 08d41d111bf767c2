//! The kernel's table of flows: forgets those of UDP that lead to somebody who is gone.
//!
//! Why: a client that goes on sending from one port would otherwise be sent to the old
//! address for as long as it does. TCP needs nothing: its endpoint's end is answered.
//! ```text
//! request  nlmsghdr | nfgenmsg | attributes         (little parts in the host's order,
//! answer   nlmsghdr | nfgenmsg | CTA_TUPLE_ORIG …    addresses and ports in network order)
//! ```
//! Works in the calling thread's network namespace, without waiting for anything but the
//! kernel.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    socket,
};

/// The flows' part of netfilter's netlink, and its messages.
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const HEADER_BYTES: usize = 16;
const FAMILY_BYTES: usize = 4;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IP_SOURCE: u16 = 1;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_SOURCE_PORT: u16 = 2;
const UDP: u8 = 17;

/// Forgets every UDP flow whose answers come from one of these; answers how many.
pub(crate) fn forget_udp(gone: &BTreeSet<(Ipv4Addr, u16)>) -> Result<usize, Errno> {
    let kernel = open()?;
    send(&kernel, GET, REQUEST | DUMP, &[])?;
    let mut doomed = Vec::new();
    receive(&kernel, |attributes| {
        if let Some(flow) = to_forget(attributes, gone) {
            doomed.push(flow);
        }
    })?;
    for flow in &doomed {
        send(&kernel, DELETE, REQUEST | ACK, flow)?;
        match receive(&kernel, |_| ()) {
            // It ended by itself.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(doomed.len())
}

fn open() -> Result<OwnedFd, Errno> {
    let protocol = SockProtocol::NetlinkNetFilter;
    let kernel = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(kernel.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(kernel)
}

fn send(kernel: &OwnedFd, kind: u16, flags: u16, attributes: &[u8]) -> Result<(), Errno> {
    let length = HEADER_BYTES + FAMILY_BYTES + attributes.len();
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([AddressFamily::Inet as u8, 0, 0, 0]);
    message.extend(attributes);
    sendto(kernel.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map(drop)
}

/// Takes messages until the answer is complete; `each` sees their attributes.
fn receive(kernel: &OwnedFd, mut each: impl FnMut(&[u8])) -> Result<(), Errno> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while rest.len() >= HEADER_BYTES {
            let size = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            if size < HEADER_BYTES || size > rest.len() {
                return Err(Errno::EBADMSG);
            }
            let body = &rest[HEADER_BYTES..size];
            match u16::from_ne_bytes([rest[4], rest[5]]) {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = body.get(..4).ok_or(Errno::EBADMSG)?;
                    let code = i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
                    return if code == 0 { Ok(()) } else { Err(Errno::from_raw(-code)) };
                }
                _ => each(body.get(FAMILY_BYTES..).unwrap_or_default()),
            }
            rest = &rest[padded(size).min(rest.len())..];
        }
    }
}

fn padded(length: usize) -> usize {
    length.div_ceil(4) * 4
}

/// Type and content of each attribute.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & TYPE_MASK;
        let Some(content) = bytes.get(4..length) else { break };
        found.push((kind, content));
        bytes = bytes.get(padded(length)..).unwrap_or_default();
    }
    found
}

fn inside(content: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(content).into_iter().find(|found| found.0 == kind).map(|found| found.1)
}

/// What deletes the flow, if it is one of those.
fn to_forget(flow: &[u8], gone: &BTreeSet<(Ipv4Addr, u16)>) -> Option<Vec<u8>> {
    let reply = inside(flow, TUPLE_REPLY)?;
    let protocol = inside(reply, TUPLE_PROTOCOL)?;
    if inside(protocol, PROTOCOL_NUMBER)?.first() != Some(&UDP) {
        return None;
    }
    let address: [u8; 4] = inside(inside(reply, TUPLE_IP)?, IP_SOURCE)?.try_into().ok()?;
    let port: [u8; 2] = inside(protocol, PROTOCOL_SOURCE_PORT)?.try_into().ok()?;
    if !gone.contains(&(address.into(), u16::from_be_bytes(port))) {
        return None;
    }
    let original = inside(flow, TUPLE_ORIGINAL)?;
    let length = u16::try_from(4 + original.len()).ok()?;
    let mut attribute = length.to_ne_bytes().to_vec();
    attribute.extend((TUPLE_ORIGINAL | NESTED).to_ne_bytes());
    attribute.extend(original);
    attribute.resize(padded(attribute.len()), 0);
    Some(attribute)
}
