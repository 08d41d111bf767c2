//! This host's own routes: to other nodes' pod ranges and to the Service range.
//!
//! Our routes carry [`ROUTE_PROTOCOL`], so that they are told from the administrator's
//! and from other daemons', and stale ones are found again after a restart.
//! Invariant: a route that is not ours is never changed or removed.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
};

use crate::sys::rtnl::{Rtnl, RtnlError, failed, has_errno};

/// Marks our routes; from the range that iproute2 leaves to other programs.
pub(crate) const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(72);

/// One of our routes over a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GatewayRoute {
    pub(crate) range: Ipv4Net,
    pub(crate) gateway: Ipv4Addr,
}

/// Makes our gateway routes exactly these; returns the routes that could not be set,
/// each with its error, because one unreachable gateway must not hold up the others.
pub(crate) async fn set_gateway_routes(
    wanted: &BTreeMap<Ipv4Net, Ipv4Addr>,
    source: Ipv4Addr,
) -> Result<Vec<(GatewayRoute, RtnlError)>, RtnlError> {
    let rtnl = Rtnl::open()?;
    let mut refused = Vec::new();
    let mut present = BTreeMap::new();
    for message in list(&rtnl).await? {
        let Some(route) = as_gateway_route(&message) else { continue };
        if wanted.get(&route.range) == Some(&route.gateway) {
            present.insert(route.range, route.gateway);
        } else if !wanted.contains_key(&route.range) {
            let removal = rtnl.handle.route().del(message).execute().await;
            if let Err(error) = removal
                && !has_errno(&error, nix::errno::Errno::ESRCH)
            {
                refused
                    .push((route, failed(format!("remove the route to {}", route.range), error)));
            }
        }
    }
    for (&range, &gateway) in wanted {
        if present.contains_key(&range) {
            continue;
        }
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .gateway(gateway)
            .pref_source(source)
            .protocol(ROUTE_PROTOCOL)
            .build();
        if let Err(error) = rtnl.handle.route().add(message).replace().execute().await {
            let action = format!("route {range} over {gateway}");
            refused.push((GatewayRoute { range, gateway }, failed(action, error)));
        }
    }
    Ok(refused)
}

/// Makes the Service range leave by `lo` with the node's address as source, and gives
/// `lo` the DNS server's address.
///
/// Why: a host without a default route would refuse to connect to a virtual address
/// before the NAT hook in OUTPUT ever saw the packet. What the hook does not translate
/// is rejected by our filter chain, so nothing really travels over `lo`.
pub(crate) async fn set_service_route(
    services: Ipv4Net,
    source: Ipv4Addr,
    dns: Ipv4Addr,
) -> Result<(), RtnlError> {
    let rtnl = Rtnl::open()?;
    let index = rtnl.index("lo", "route the Service range").await?;
    rtnl.set_up(index, None).await?;
    rtnl.add_address(index, dns, AddressScope::Universe).await?;
    let message = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(services.network(), services.prefix_len())
        .output_interface(index)
        .scope(RouteScope::Link)
        .pref_source(source)
        .protocol(ROUTE_PROTOCOL)
        .build();
    let request = rtnl.handle.route().add(message).replace();
    request.execute().await.map_err(|error| failed(format!("route {services} to lo"), error))
}

/// Removes every route of ours from the main table; returns how many there were.
pub(crate) async fn remove_routes() -> Result<usize, RtnlError> {
    let rtnl = Rtnl::open()?;
    let ours = list(&rtnl).await?;
    let count = ours.len();
    for message in ours {
        let removal = rtnl.handle.route().del(message).execute().await;
        if let Err(error) = removal
            && !has_errno(&error, nix::errno::Errno::ESRCH)
        {
            return Err(failed("remove a route of ours".into(), error));
        }
    }
    Ok(count)
}

/// The MTU of the link that carries the node's address.
pub(crate) async fn mtu_of(address: Ipv4Addr) -> Result<Option<u32>, RtnlError> {
    Ok(Rtnl::open()?.link_of_address(address).await?.and_then(|(_, mtu)| mtu))
}

async fn list(rtnl: &Rtnl) -> Result<Vec<RouteMessage>, RtnlError> {
    let filter = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let all: Vec<RouteMessage> = rtnl
        .handle
        .route()
        .get(filter)
        .execute()
        .try_collect()
        .await
        .map_err(|error| failed("list routes".into(), error))?;
    let ours = |message: &RouteMessage| {
        message.header.protocol == ROUTE_PROTOCOL
            && message.header.table == RouteHeader::RT_TABLE_MAIN
    };
    Ok(all.into_iter().filter(ours).collect())
}

fn as_gateway_route(message: &RouteMessage) -> Option<GatewayRoute> {
    let mut destination = None;
    let mut gateway = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = Some(*address)
            }
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            _ => {}
        }
    }
    let range = Ipv4Net::new(destination?, message.header.destination_prefix_length).ok()?;
    Some(GatewayRoute { range, gateway: gateway? })
}
