//! Which hosts a lab has, what they are called and where they stand. Pure.
//!
//! Why fixed addresses: every lab has its own network namespaces, so labs beside each
//! other can all use the same ones, and a reader of a log knows the host by its address.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The hosts' own range; the gateway is its first address.
pub(crate) const SEGMENT: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 77, 0, 0), 16);
/// The lab's switch, the hosts' default gateway, which leads nowhere.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
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
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("layout two-site is not served yet; there are one and three")]
    NotServed,
    #[error("there is no layout {0:?}; there are one and three")]
    Unknown(String),
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Layout::One => "one",
            Layout::Three => "three",
        })
    }
}

impl std::str::FromStr for Layout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        match text {
            "one" => Ok(Layout::One),
            "three" => Ok(Layout::Three),
            "two-site" => Err(LayoutError::NotServed),
            other => Err(LayoutError::Unknown(other.to_owned())),
        }
    }
}

impl Layout {
    /// The hosts, the first of which is the first master.
    pub fn hosts(self) -> Vec<HostPlan> {
        let centers: &[(&str, u8)] = match self {
            Layout::One => &[("a", 1)],
            Layout::Three => &[("a", 1), ("b", 2), ("c", 3)],
        };
        let host = |(center, number): &(&str, u8)| HostPlan {
            name: format!("{center}1"),
            center: (*center).to_owned(),
            address: Ipv4Addr::new(10, 77, 0, number * 10 + 1),
        };
        centers.iter().map(host).collect()
    }
}

/// One host of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPlan {
    pub name: String,
    pub center: String,
    pub address: Ipv4Addr,
}

/// Ranges that belong to the cluster besides the hosts' own: packets for them that find no
/// host are refused at the switch and are not packets that leave.
pub(crate) fn inner_ranges() -> Vec<Ipv4Net> {
    [POD_RANGE, SERVICE_RANGE]
        .iter()
        .map(|range| range.parse().expect("the constants above are ranges"))
        .collect()
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
         \x20 sites:\n\
         \x20   - name: city\n\
         \x20     centers:\n"
    );
    let mut center = None;
    for host in hosts {
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
    fn three_masters_stand_in_three_centers() {
        let hosts = Layout::Three.hosts();
        let names: Vec<_> = hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(names, ["a1", "b1", "c1"]);
        let range = Ipv4Net::new(SEGMENT.0, SEGMENT.1).unwrap();
        assert!(hosts.iter().all(|host| range.contains(&host.address)));
        assert!(hosts.iter().all(|host| host.address != GATEWAY));
    }

    #[test]
    fn two_sites_are_refused_as_not_served() {
        assert_eq!("two-site".parse::<Layout>(), Err(LayoutError::NotServed));
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
    }
}
