//! Which hosts a lab has, what they are called and where they stand. Pure.
//!
//! ```text
//!  one, three     one segment 10.77.0.0/16 for all centers
//!  two-site       a: 10.77.1.0/24 ── 1 ms ── b: 10.77.2.0/24     (city)
//!                  └───── 30 ms ─────┬─────── 30 ms ───┘
//!                          c: 10.77.3.0/24                       (remote)
//! ```
//! Why fixed addresses: every lab has its own network namespaces, so labs beside each
//! other can all use the same ones, and a reader of a log knows the host by its address.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::wan::Ways;
use crate::model::cluster::Cluster;

/// The hosts' own range, of which each segment has a part.
const HOSTS_RANGE: &str = "10.77.0.0/16";
const POD_RANGE: &str = "10.244.0.0/16";
const SERVICE_RANGE: &str = "10.96.0.0/16";

/// What a node keeps free: all of a lab shares one machine's disk, of which it takes little
/// whatever its size, so that parts of the whole would say nothing about room for pods.
const DISK_KEPT: &str = "256Mi";
const INODES_KEPT: &str = "10000";

/// Shapes of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// One master, `a1`.
    One,
    /// Three masters in three centers of one site: `a1`, `b1`, `c1`.
    Three,
    /// Two sites and three centers: `a1 a2` and `b1 b2` in one city, `c1 c2 c3` in another.
    TwoSite,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("there is no layout {0:?}; there are one, three and two-site")]
    Unknown(String),
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Layout::One => "one",
            Layout::Three => "three",
            Layout::TwoSite => "two-site",
        })
    }
}

impl std::str::FromStr for Layout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        match text {
            "one" => Ok(Layout::One),
            "three" => Ok(Layout::Three),
            "two-site" => Ok(Layout::TwoSite),
            other => Err(LayoutError::Unknown(other.to_owned())),
        }
    }
}

impl Layout {
    /// The hosts, the first of which is the first master.
    pub fn hosts(self) -> Vec<HostPlan> {
        let centers: &[(&str, u8, u8)] = match self {
            Layout::One => &[("a", 1, 1)],
            Layout::Three => &[("a", 1, 1), ("b", 2, 1), ("c", 3, 1)],
            Layout::TwoSite => &[("a", 1, 2), ("b", 2, 2), ("c", 3, 3)],
        };
        let mut hosts = Vec::new();
        for (center, number, count) in centers {
            for host in 1..=*count {
                hosts.push(HostPlan {
                    name: format!("{center}{host}"),
                    site: self.site(center).to_owned(),
                    center: (*center).to_owned(),
                    address: match self {
                        Layout::TwoSite => Ipv4Addr::new(10, 77, *number, 10 + host),
                        _ => Ipv4Addr::new(10, 77, 0, number * 10 + host),
                    },
                });
            }
        }
        hosts
    }

    /// The networks whose hosts see each other directly.
    pub(crate) fn segments(self) -> Vec<Segment> {
        let segment = |name: &str, third: u8, prefix: u8| Segment {
            name: name.to_owned(),
            range: Ipv4Net::new_assert(Ipv4Addr::new(10, 77, third, 0), prefix),
        };
        match self {
            Layout::One | Layout::Three => vec![segment("lab", 0, 16)],
            Layout::TwoSite => {
                vec![segment("a", 1, 24), segment("b", 2, 24), segment("c", 3, 24)]
            }
        }
    }

    /// What the links between the segments do to packets before any fault; the round trip
    /// is a millisecond within the city and thirty to the other.
    pub(crate) fn ways(self) -> Ways {
        let segments = self.segments();
        let names: Vec<&str> = segments.iter().map(|segment| segment.name.as_str()).collect();
        if names.len() < 2 {
            return Ways::default();
        }
        Ways::between(
            &names,
            |one, other| if self.site(one) == self.site(other) { 1.0 } else { 30.0 },
        )
    }

    /// The city that a center stands in.
    fn site(self, center: &str) -> &'static str {
        if self == Layout::TwoSite && center == "c" { "remote" } else { "city" }
    }
}

/// Hosts that see each other directly, and the router that they have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Of the center, where each has its own.
    pub(crate) name: String,
    pub(crate) range: Ipv4Net,
}

impl Segment {
    fn address(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.range.network()) + number)
    }

    /// The router, the hosts' default gateway, which leads to the other segments alone.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// Whoever looks into the lab from the machine.
    pub(crate) fn console(&self) -> Ipv4Addr {
        self.address(2)
    }
}

/// One host of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPlan {
    pub name: String,
    pub site: String,
    pub center: String,
    pub address: Ipv4Addr,
}

/// A host keeps its hardware address over a reboot, as a network card does: its neighbours
/// would otherwise talk to the old one until they forget it.
pub(crate) fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    // The first byte says that the address is locally administered.
    [0x02, 0x68, a, b, c, d]
}

/// Ranges that belong to the lab: packets for them that find no host are refused at the
/// routers and are not packets that leave.
pub(crate) fn inner_ranges() -> Vec<Ipv4Net> {
    [POD_RANGE, SERVICE_RANGE, HOSTS_RANGE]
        .iter()
        .map(|range| range.parse().expect("the constants above are ranges"))
        .collect()
}

/// The pod ranges of a center and of its hosts, as the product will give them out.
pub(crate) fn pod_ranges(hosts: &[HostPlan], center: &str) -> (Ipv4Net, Vec<(Ipv4Net, Ipv4Addr)>) {
    let parsed = Cluster::parse(&cluster_file(hosts)).expect("a lab's cluster file is right");
    let v4 = |range: IpNet| match range {
        IpNet::V4(range) => range,
        IpNet::V6(_) => unreachable!("a lab's pod range is of IPv4"),
    };
    let cluster = parsed.cluster;
    let (_, found) = cluster.center(center).expect("the center is of this lab");
    let of_hosts = hosts.iter().filter(|host| host.center == center).filter_map(|host| {
        let range = cluster.pod_range_for(&cluster.node(&host.name)?, &[])?;
        Some((v4(range), host.address))
    });
    (v4(found.pod_range), of_hosts.collect())
}

/// The cluster file that the first master is made from.
pub(crate) fn cluster_file(hosts: &[HostPlan]) -> String {
    let mut text = format!(
        "apiVersion: holdfast.io/v1\n\
         kind: Cluster\n\
         metadata: {{name: lab}}\n\
         spec:\n\
         \x20 network: {{podRange: {POD_RANGE}, nodePrefix: 24, serviceRange: {SERVICE_RANGE}, \
         clusterDomain: cluster.local}}\n\
         \x20 eviction: {{nodefsAvailable: {DISK_KEPT}, nodefsInodesFree: {INODES_KEPT}}}\n\
         \x20 sites:\n"
    );
    let (mut site, mut center) = (None, None);
    for host in hosts {
        if site != Some(&host.site) {
            text.push_str(&format!("    - name: {}\n      centers:\n", host.site));
            site = Some(&host.site);
        }
        if center != Some(&host.center) {
            text.push_str(&format!("        - name: {}\n          nodes:\n", host.center));
            center = Some(&host.center);
        }
        text.push_str(&format!(
            "            - {{name: {}, address: {}, roles: [control, worker]}}\n",
            host.name, host.address
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_masters_stand_in_three_centers_of_one_segment() {
        let hosts = Layout::Three.hosts();
        let names: Vec<_> = hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(names, ["a1", "b1", "c1"]);
        let segments = Layout::Three.segments();
        assert_eq!(segments.len(), 1);
        assert!(hosts.iter().all(|host| segments[0].range.contains(&host.address)));
        assert!(hosts.iter().all(|host| host.address != segments[0].gateway()));
        assert!(Layout::Three.ways().ways.is_empty());
    }

    #[test]
    fn two_sites_have_three_segments_with_links_between_them() {
        let hosts = Layout::TwoSite.hosts();
        let names: Vec<_> = hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(names, ["a1", "a2", "b1", "b2", "c1", "c2", "c3"]);
        let segments = Layout::TwoSite.segments();
        for host in &hosts {
            let own: Vec<_> =
                segments.iter().filter(|one| one.range.contains(&host.address)).collect();
            assert_eq!(own.len(), 1, "{host:?}");
            assert_eq!(own[0].name, host.center);
            assert!(![own[0].gateway(), own[0].console()].contains(&host.address));
        }
        let ways = Layout::TwoSite.ways();
        assert_eq!(ways.of("a", "b").unwrap().delay_ms, 0.5);
        assert_eq!(ways.of("c", "a").unwrap().delay_ms, 15.0);
    }

    #[test]
    fn an_unknown_layout_is_refused_with_those_that_there_are() {
        assert_eq!("two-site".parse::<Layout>(), Ok(Layout::TwoSite));
        assert_eq!("five".parse::<Layout>(), Err(LayoutError::Unknown("five".into())));
    }

    #[test]
    fn the_cluster_file_names_every_host_once() {
        let text = cluster_file(&Layout::Three.hosts());
        let file: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let centers = file["spec"]["sites"][0]["centers"].as_array().unwrap();
        assert_eq!(centers.len(), 3);
        assert_eq!(centers[2]["nodes"][0]["name"], "c1");
        assert_eq!(centers[2]["nodes"][0]["address"], "10.77.0.31");
        assert_eq!(file["spec"]["network"]["podRange"], POD_RANGE);
        let text = cluster_file(&Layout::TwoSite.hosts());
        let cluster = Cluster::parse(&text).unwrap().cluster;
        assert_eq!(cluster.sites.len(), 2);
        assert_eq!(cluster.center("c").map(|(site, _)| site), Some("remote"));
        assert_eq!(cluster.nodes().count(), 7);
    }

    #[test]
    fn the_pod_ranges_of_hosts_are_parts_of_their_centers() {
        let hosts = Layout::TwoSite.hosts();
        let mut all = Vec::new();
        for center in ["a", "b", "c"] {
            let (aggregate, of_hosts) = pod_ranges(&hosts, center);
            assert!(of_hosts.iter().all(|(range, _)| aggregate.contains(range)));
            all.extend(of_hosts);
        }
        assert_eq!(all.len(), 7);
        all.sort();
        all.dedup_by_key(|(range, _)| *range);
        assert_eq!(all.len(), 7);
    }
}
