//! Addresses, ports and links.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Severity::{Error, Info, Warning};
use super::{Check, Faults, Seen, check, known, of_machine, when};

/// Less than this and pods' packets of the usual size are cut. Bytes.
const MTU_USUAL: u32 = 1_500;
/// Less than this and nothing of ours fits (RFC 8200's least, too). Bytes.
const MTU_MIN: u32 = 1_280;
/// Mbit/s.
const SPEED_MIN: i64 = 1_000;
/// Ports of Services of type NodePort.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;
/// Where the proxy for Ingress objects listens.
const INGRESS_PORTS: [u16; 2] = [80, 443];

/// The interface that carries the node's address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub mtu: Option<u32>,
    pub carrier: Option<bool>,
    /// Mbit/s; not known of virtual ones.
    pub speed: Option<i64>,
    pub half_duplex: bool,
    pub packets: u64,
    /// Received or to be sent, and broken.
    pub errors: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFacts {
    pub addresses: Vec<String>,
    pub interface: Option<Interface>,
    /// Ports that cannot be listened on, with the reason.
    pub busy_ports: Vec<(u16, String)>,
    /// Ports that somebody listens on.
    pub listening: Vec<u16>,
    /// Networks that the routing table knows, without the default.
    pub routes: Vec<IpNet>,
    pub default_route: bool,
    pub resolv_conf: bool,
    /// What `/etc/hosts` says of `localhost` and of the host's own name.
    pub localhost: Vec<IpAddr>,
    pub own_name: Vec<IpAddr>,
    /// The host's IPv4 rules are also held by the old iptables.
    pub legacy_iptables: bool,
    /// Names of variables that send programs by a proxy.
    pub proxies: Vec<String>,
    /// `bond0/eth1`: parts of bonds without a link.
    pub down_in_bonds: Vec<String>,
}

/// A question about the interface of the node's address, if there is one.
fn interface(seen: &Seen<'_>, look: impl FnOnce(&Interface) -> Option<String>) -> Faults {
    let found = seen.host.network.interface.as_ref();
    let fault = found.and_then(|one| Some((look(one)?, one.name.clone())));
    fault.into_iter().collect()
}

fn overlaps(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

pub(super) const CHECKS: &[Check] = &[
    check("address", Error, "correct the cluster file or configure the interface", |seen| {
        let (all, wanted) = (&seen.host.network.addresses, &seen.needs.address);
        when(!all.contains(wanted), "ip address", || {
            format!("no interface has {wanted}; there are {}", all.join(", "))
        })
    }),
    of_machine("address-kind", Warning, "choose an address that the other hosts reach", |seen| {
        let address = seen.needs.address.parse().ok();
        let alone = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
        };
        known(address, "ip address", alone, |ip| format!("{ip} has a meaning on this host only"))
    }),
    check("port-in-use", Error, "stop what listens there", |seen| {
        let say = |(port, reason): &(u16, String)| {
            let place = format!("{}:{port}", seen.needs.address);
            (format!("port {port} cannot be used: {reason}"), place)
        };
        let all = seen.host.network.busy_ports.iter();
        all.filter(|_| !seen.needs.resuming).map(say).collect()
    }),
    of_machine(
        "ingress-port",
        Warning,
        "stop what listens there, or use no Ingress here",
        |seen| {
            let busy = INGRESS_PORTS
                .into_iter()
                .filter(|port| !seen.needs.resuming && seen.host.network.listening.contains(port));
            busy.map(|port| (format!("port {port} is taken"), format!("0.0.0.0:{port}"))).collect()
        },
    ),
    of_machine("node-port", Warning, "move what listens there to a port below 30000", |seen| {
        let busy = seen
            .host
            .network
            .listening
            .iter()
            .filter(|port| !seen.needs.resuming && NODE_PORTS.contains(*port));
        let say = |port: &u16| {
            (format!("port {port} is taken, which a Service may get"), format!("0.0.0.0:{port}"))
        };
        busy.map(say).collect()
    }),
    check(
        "range-overlap",
        Error,
        "choose other ranges in spec.network of the cluster file",
        |seen| {
            let ranges = &seen.needs.ranges;
            let own = |address: &String| address.parse::<IpAddr>().ok().map(IpNet::from);
            let network = &seen.host.network;
            let here: Vec<IpNet> = if seen.needs.resuming {
                Vec::new()
            } else {
                network.addresses.iter().filter_map(own).chain(network.routes.clone()).collect()
            };
            let mut found = Vec::new();
            for range in ranges {
                if let Some(other) = here.iter().find(|other| overlaps(range, other)) {
                    let what = format!("{range} is the cluster's, and this host is led to {other}");
                    found.push((what, "ip route".to_owned()));
                }
            }
            found
        },
    ),
    of_machine("link-down", Warning, "plug the cable in, or look at the switch's port", |seen| {
        interface(seen, |one| (one.carrier == Some(false)).then(|| "there is no link".into()))
    }),
    of_machine("link-speed", Warning, "look at the cable and the switch's port", |seen| {
        interface(seen, |one| {
            let slow = one.speed.filter(|speed| (1..SPEED_MIN).contains(speed))?;
            Some(format!("the link has {slow} Mbit/s"))
        })
    }),
    of_machine(
        "link-duplex",
        Warning,
        "let both ends negotiate (ethtool -s IF autoneg on)",
        |seen| interface(seen, |one| one.half_duplex.then(|| "the link is half-duplex".into())),
    ),
    of_machine("link-errors", Warning, "replace cable, transceiver or port", |seen| {
        interface(seen, |one| {
            // A few at the start are usual.
            let many = one.errors > 100 && one.errors > one.packets / 10_000;
            many.then(|| format!("{} of {} packets were broken", one.errors, one.packets))
        })
    }),
    of_machine("mtu", Warning, "set the MTU to 1500 or more, on all hosts and switches", |seen| {
        interface(seen, |one| {
            let small = one.mtu.filter(|mtu| (MTU_MIN..MTU_USUAL).contains(mtu))?;
            Some(format!("packets may have {small} bytes; pods send {MTU_USUAL}"))
        })
    }),
    of_machine("mtu", Error, "set the MTU to 1500", |seen| {
        interface(seen, |one| {
            let tiny = one.mtu.filter(|mtu| *mtu < MTU_MIN)?;
            Some(format!("packets may have {tiny} bytes, at least {MTU_MIN} are needed"))
        })
    }),
    of_machine("bond-link", Warning, "plug the cable in, or look at the switch's port", |seen| {
        let all = &seen.host.network.down_in_bonds;
        let say = |part: &String| ("a part of the bond has no link".to_owned(), part.clone());
        all.iter().map(say).collect()
    }),
    of_machine(
        "default-route",
        Info,
        "nothing must be done if all others are on this segment",
        |seen| {
            when(!seen.host.network.default_route, "ip route", || {
                "no default route: other networks cannot be reached".into()
            })
        },
    ),
    of_machine("resolv-conf", Info, "name the site's name servers there", |seen| {
        when(!seen.host.network.resolv_conf, "/etc/resolv.conf", || {
            "no name server: pods see the cluster's names only".into()
        })
    }),
    of_machine("hosts-localhost", Warning, "add the line: 127.0.0.1 localhost", |seen| {
        when(seen.host.network.localhost.iter().all(|ip| !ip.is_loopback()), "/etc/hosts", || {
            "localhost is not this host".into()
        })
    }),
    of_machine("hosts-own-name", Warning, "correct the line of the host's own name", |seen| {
        let own = &seen.host.network.own_name;
        let elsewhere = own
            .iter()
            .find(|ip| !ip.is_loopback() && !seen.host.network.addresses.contains(&ip.to_string()));
        known(
            elsewhere,
            "/etc/hosts",
            |_| true,
            |ip| format!("the host's own name leads to {ip}, which is not here"),
        )
    }),
    of_machine(
        "legacy-iptables",
        Warning,
        "move its rules to nftables (iptables-legacy-save)",
        |seen| {
            when(seen.host.network.legacy_iptables, "/proc/net/ip_tables_names", || {
                "rules of the old iptables are looked at beside ours, and may drop pods' packets"
                    .into()
            })
        },
    ),
    check("proxy", Info, "unset it, or add the cluster's ranges to NO_PROXY", |seen| {
        let all = &seen.host.network.proxies;
        when(!all.is_empty(), "environment", || format!("{} is set", all.join(", ")))
    }),
];
