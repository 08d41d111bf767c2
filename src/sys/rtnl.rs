//! One connection to the kernel's routing netlink, in the caller's network namespace.
//!
//! Owns the task that drives the connection and ends it when dropped. Wraps every
//! request so that errors say what was tried.

use std::net::Ipv4Addr;

use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, new_connection};
use tokio::task::JoinSet;

/// A netlink request failed.
#[derive(Debug, thiserror::Error)]
pub enum RtnlError {
    #[error("cannot open a netlink socket")]
    Open(#[source] std::io::Error),
    #[error("cannot {action}")]
    Request {
        action: String,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("cannot {action}: there is no link {link}")]
    NoLink { action: String, link: String },
}

/// Whether the kernel answered with this errno.
pub(crate) fn has_errno(error: &rtnetlink::Error, errno: nix::errno::Errno) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code() == -(errno as i32),
        _ => false,
    }
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Rtnl {
    pub(crate) handle: Handle,
    _driver: JoinSet<()>,
}

impl Rtnl {
    /// Opens a connection in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, RtnlError> {
        let (connection, handle, _) = new_connection().map_err(RtnlError::Open)?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self { handle, _driver: driver })
    }

    /// The link of that name, if there is one.
    pub(crate) async fn link(&self, name: &str) -> Result<Option<LinkMessage>, RtnlError> {
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        match links.try_next().await {
            Ok(link) => Ok(link),
            Err(error) if has_errno(&error, nix::errno::Errno::ENODEV) => Ok(None),
            Err(source) => Err(failed(format!("look up link {name}"), source)),
        }
    }

    /// The index of a link that must exist.
    pub(crate) async fn index(&self, name: &str, action: &str) -> Result<u32, RtnlError> {
        match self.link(name).await? {
            Some(link) => Ok(link.header.index),
            None => Err(RtnlError::NoLink { action: action.into(), link: name.into() }),
        }
    }

    pub(crate) async fn set_up(&self, index: u32, mtu: Option<u32>) -> Result<(), RtnlError> {
        let mut message = LinkUnspec::new_with_index(index).up();
        if let Some(mtu) = mtu {
            message = message.mtu(mtu);
        }
        let request = self.handle.link().set(message.build());
        request.execute().await.map_err(|error| failed(format!("bring link {index} up"), error))
    }

    /// Gives a link an address with prefix length 32; having it already is no error.
    pub(crate) async fn add_address(
        &self,
        index: u32,
        address: Ipv4Addr,
        scope: AddressScope,
    ) -> Result<(), RtnlError> {
        let mut request = self.handle.address().add(index, address.into(), 32).replace();
        request.message_mut().header.scope = scope;
        request.execute().await.map_err(|error| failed(format!("add address {address}"), error))
    }

    /// Index and MTU of the link that carries an address of this host.
    pub(crate) async fn link_of_address(
        &self,
        address: Ipv4Addr,
    ) -> Result<Option<(u32, Option<u32>)>, RtnlError> {
        let action = || format!("look up the link of {address}");
        let mut addresses = self.handle.address().get().execute();
        let mut index = None;
        while let Some(found) =
            addresses.try_next().await.map_err(|error| failed(action(), error))?
        {
            let is_it = found.header.family == AddressFamily::Inet
                && found.attributes.iter().any(
                    |attribute| matches!(attribute, AddressAttribute::Local(local) if *local == address),
                );
            if is_it {
                index = Some(found.header.index);
            }
        }
        let Some(index) = index else { return Ok(None) };
        let mut links = self.handle.link().get().match_index(index).execute();
        let link = links.try_next().await.map_err(|error| failed(action(), error))?;
        let mtu = link.and_then(|link| {
            link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            })
        });
        Ok(Some((index, mtu)))
    }

    /// Names of all links.
    pub(crate) async fn link_names(&self) -> Result<Vec<String>, RtnlError> {
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| failed("list links".into(), error))?;
        let name = |link: LinkMessage| {
            link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            })
        };
        Ok(links.into_iter().filter_map(name).collect())
    }

    /// Takes an address with prefix length 32 from a link; a missing one is no error.
    pub(crate) async fn remove_address(
        &self,
        index: u32,
        address: Ipv4Addr,
    ) -> Result<(), RtnlError> {
        let action = || format!("remove address {address}");
        let all: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| failed(action(), error))?;
        for found in all {
            let is_it = found.header.index == index
                && found.header.family == AddressFamily::Inet
                && found.header.prefix_len == 32
                && found.attributes.iter().any(
                    |attribute| matches!(attribute, AddressAttribute::Local(local) if *local == address),
                );
            if is_it {
                let request = self.handle.address().del(found);
                request.execute().await.map_err(|error| failed(action(), error))?;
            }
        }
        Ok(())
    }

    /// Deletes a link; a missing one is no error.
    pub(crate) async fn delete_link(&self, name: &str) -> Result<(), RtnlError> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        match self.handle.link().del(link.header.index).execute().await {
            Err(error) if has_errno(&error, nix::errno::Errno::ENODEV) => Ok(()),
            Err(error) => Err(failed(format!("delete link {name}"), error)),
            Ok(()) => Ok(()),
        }
    }
}

/// Names the request that failed.
pub(crate) fn failed(action: String, source: rtnetlink::Error) -> RtnlError {
    RtnlError::Request { action, source }
}
