//! The link between a pod and its host: a veth pair with routes, no bridge.
//!
//! ```text
//!  pod namespace                          host namespace
//!  eth0 <pod>/32  ──────── veth ────────  hf<id> 169.254.1.1/32
//!  default via 169.254.1.1                <pod>/32 dev hf<id> src <node>
//! ```
//! Why routed: every packet passes the host's routing and its NAT hooks, also between
//! two pods of one host, so that Services need no bridge filter; a pod can neither see
//! nor answer another pod's ARP. The gateway is the same link-local address in every
//! pod and stands on each host end, so that it is answered without proxy ARP, which
//! would need a default route that an isolated bank host does not have.
//!
//! Invariants: every step can be repeated; the host end's name is a function of the
//! pod's uid, so a crash leaves nothing that cannot be found again.

use std::net::Ipv4Addr;

use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::sys::in_netns::{NetNs, NetNsError};
use crate::sys::routes::ROUTE_PROTOCOL;
use crate::sys::rtnl::{Rtnl, RtnlError, failed};

/// Every pod's default gateway.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The link inside the pod.
const POD_LINK: &str = "eth0";

/// A step of connecting or disconnecting failed.
#[derive(Debug, thiserror::Error)]
pub enum PodLinkError {
    #[error("host side: cannot {step}")]
    Host {
        step: &'static str,
        #[source]
        source: RtnlError,
    },
    #[error("pod side: cannot set up {POD_LINK}")]
    Pod(#[source] RtnlError),
    #[error("cannot work in the pod's namespace")]
    Namespace(#[source] NetNsError),
}

/// What a pod's link shall be.
#[derive(Clone, Debug)]
pub(crate) struct PodLink {
    /// Name of the host end, at most 15 bytes.
    pub(crate) host_link: String,
    pub(crate) pod_address: Ipv4Addr,
    /// Source of packets that the host itself sends to the pod.
    pub(crate) node_address: Ipv4Addr,
    pub(crate) mtu: u32,
}

impl PodLink {
    /// Makes link, addresses and routes, or completes what an earlier try left.
    pub(crate) async fn connect(&self, netns: &NetNs) -> Result<(), PodLinkError> {
        let host = |step| move |source| PodLinkError::Host { step, source };
        let rtnl = Rtnl::open().map_err(host("open netlink"))?;
        let host_end = rtnl.link(&self.host_link).await.map_err(host("find the link"))?;
        let pod_end = Self::has_pod_end(netns).await?;
        if host_end.is_none() || !pod_end {
            // A host end whose other end is not in this namespace belongs to an earlier
            // sandbox of the same pod.
            rtnl.delete_link(&self.host_link).await.map_err(host("remove the old link"))?;
            self.create(&rtnl, netns).await.map_err(host("create the link"))?;
        }
        self.set_up_pod_end(netns).await?;
        self.set_up_host_end(&rtnl).await.map_err(host("set up the link"))
    }

    async fn has_pod_end(netns: &NetNs) -> Result<bool, PodLinkError> {
        netns
            .run(|| async { Ok::<_, RtnlError>(Rtnl::open()?.link(POD_LINK).await?.is_some()) })
            .await
            .map_err(PodLinkError::Namespace)?
            .map_err(PodLinkError::Pod)
    }

    /// Creates both ends at once, the far one directly in the pod under its final name:
    /// there is no moment in which a crash would leave a nameless end on the host.
    async fn create(&self, rtnl: &Rtnl, netns: &NetNs) -> Result<(), RtnlError> {
        let far = LinkMessageBuilder::<LinkUnspec>::new()
            .name(POD_LINK)
            .mtu(self.mtu)
            .setns_by_fd(netns.raw_fd())
            .build();
        let pair = LinkVeth::new(&self.host_link, POD_LINK)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .mtu(self.mtu)
            .build();
        let request = rtnl.handle.link().add(pair);
        let action = || format!("create veth {}", self.host_link);
        request.execute().await.map_err(|error| failed(action(), error))
    }

    async fn set_up_host_end(&self, rtnl: &Rtnl) -> Result<(), RtnlError> {
        let index = rtnl.index(&self.host_link, "set up the host end").await?;
        rtnl.set_up(index, Some(self.mtu)).await?;
        rtnl.add_address(index, GATEWAY, AddressScope::Link).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(self.pod_address, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .pref_source(self.node_address)
            .protocol(ROUTE_PROTOCOL)
            .build();
        let request = rtnl.handle.route().add(route).replace();
        let action = || format!("route {} to {}", self.pod_address, self.host_link);
        request.execute().await.map_err(|error| failed(action(), error))
    }

    async fn set_up_pod_end(&self, netns: &NetNs) -> Result<(), PodLinkError> {
        let (address, mtu) = (self.pod_address, self.mtu);
        netns
            .run(move || async move {
                let rtnl = Rtnl::open()?;
                rtnl.set_up(rtnl.index("lo", "bring lo up").await?, None).await?;
                let index = rtnl.index(POD_LINK, "set up the pod's end").await?;
                rtnl.add_address(index, address, AddressScope::Universe).await?;
                rtnl.set_up(index, Some(mtu)).await?;
                let gateway = RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(GATEWAY, 32)
                    .output_interface(index)
                    .scope(RouteScope::Link)
                    .build();
                let request = rtnl.handle.route().add(gateway).replace();
                let to_gateway = |error| failed("route to the gateway".into(), error);
                request.execute().await.map_err(to_gateway)?;
                let default = RouteMessageBuilder::<Ipv4Addr>::new()
                    .gateway(GATEWAY)
                    .output_interface(index)
                    .onlink()
                    .build();
                let request = rtnl.handle.route().add(default).replace();
                request
                    .execute()
                    .await
                    .map_err(|error| failed("set the default route".into(), error))
            })
            .await
            .map_err(PodLinkError::Namespace)?
            .map_err(PodLinkError::Pod)
    }
}

/// Removes the host end and with it the pod's end and the route; a missing one is fine.
pub(crate) async fn disconnect(host_link: &str) -> Result<(), PodLinkError> {
    let host = |source| PodLinkError::Host { step: "remove the link", source };
    let rtnl = Rtnl::open().map_err(host)?;
    rtnl.delete_link(host_link).await.map_err(host)
}
