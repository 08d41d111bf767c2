//! What the cluster's DNS server answers: names, types and addresses, no packets.
//!
//! Follows the Kubernetes DNS specification 1.1.0 for Services (A, SRV, CNAME, PTR) and
//! pods (`a-b-c-d.<ns>.pod.<domain>`).
//! Invariants: a name outside the cluster's domain is [`Answer::Refused`], never asked
//! elsewhere; a name that exists without records of the asked type is an empty
//! [`Answer::Records`], because `NXDOMAIN` for AAAA makes resolvers forget the A too.
//! Not here: the protocol (network/dns.rs).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::logic::balance::{Transport, by_service, cluster_address, is_ready};

/// The record types that exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    A,
    Srv,
    Ptr,
    Any,
    /// A type that no name here has, such as AAAA or MX.
    Other,
}

/// One record's data; names are fully qualified, lower case, with a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    A(Ipv4Addr),
    Srv { port: u16, target: String },
    Ptr(String),
    Cname(String),
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name exists; maybe without records of the asked type. The `String` is the
    /// owner of the record: SRV answers bring their targets' A records along.
    Records { answers: Vec<(String, Data)>, additional: Vec<(String, Data)> },
    /// Inside the domain and not there.
    NoSuchName,
    /// Not ours to answer.
    Refused,
}

/// All names at one moment.
#[derive(Clone, Debug)]
pub struct Zone {
    /// With trailing dot, lower case.
    domain: String,
    pod_range: Ipv4Net,
    service_range: Ipv4Net,
    names: BTreeMap<String, BTreeSet<Data>>,
    /// Namespaces that have names; `<ns>.svc.<domain>` exists then.
    parents: BTreeSet<String>,
}

impl Zone {
    /// Derives every name from the objects.
    pub fn build(
        domain: &str,
        pod_range: Ipv4Net,
        service_range: Ipv4Net,
        services: &[Arc<Service>],
        slices: &[Arc<EndpointSlice>],
    ) -> Self {
        let domain = format!("{}.", domain.trim_end_matches('.').to_ascii_lowercase());
        let mut zone = Self {
            domain,
            pod_range,
            service_range,
            names: BTreeMap::new(),
            parents: BTreeSet::new(),
        };
        let grouped = by_service(slices);
        for service in services {
            let key = (
                service.metadata.namespace.clone().unwrap_or_default(),
                service.metadata.name.clone().unwrap_or_default(),
            );
            let own = grouped.get(&key).map(Vec::as_slice).unwrap_or_default();
            zone.add_service(service, &key.0, &key.1, own);
        }
        zone.collect_parents();
        zone
    }

    /// The cluster's domain with trailing dot.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Answers one question; `name` with trailing dot, any case.
    pub fn answer(&self, name: &str, asked: Asked) -> Answer {
        let name = name.to_ascii_lowercase();
        if let Some(data) = self.names.get(&name) {
            return self.records(&name, data, asked);
        }
        if let Some(address) = reverse_address(&name) {
            let ours = self.pod_range.contains(&address) || self.service_range.contains(&address);
            return if ours { Answer::NoSuchName } else { Answer::Refused };
        }
        let Some(inside) = name.strip_suffix(&self.domain) else { return Answer::Refused };
        if !inside.is_empty() && !inside.ends_with('.') {
            return Answer::Refused;
        }
        if let Some(address) = self.pod_address(inside) {
            let data = BTreeSet::from([Data::A(address)]);
            return self.records(&name, &data, asked);
        }
        if inside.is_empty() || self.parents.contains(&name) {
            return Answer::Records { answers: Vec::new(), additional: Vec::new() };
        }
        Answer::NoSuchName
    }

    fn records(&self, name: &str, data: &BTreeSet<Data>, asked: Asked) -> Answer {
        let mut answers = Vec::new();
        let mut additional = Vec::new();
        for item in data {
            let fits = match item {
                Data::A(_) => matches!(asked, Asked::A | Asked::Any),
                Data::Srv { .. } => matches!(asked, Asked::Srv | Asked::Any),
                Data::Ptr(_) => matches!(asked, Asked::Ptr | Asked::Any),
                // An alias is the answer to every type.
                Data::Cname(_) => true,
            };
            if !fits {
                continue;
            }
            if let Data::Srv { target, .. } = item {
                let addresses = self.names.get(target).into_iter().flatten();
                additional.extend(
                    addresses
                        .filter(|found| matches!(found, Data::A(_)))
                        .map(|found| (target.clone(), found.clone())),
                );
            }
            answers.push((name.to_owned(), item.clone()));
            if let Data::Cname(target) = item {
                // An alias into our own domain is followed, one to outside is not.
                let own = self.names.get(target).into_iter().flatten();
                answers.extend(
                    own.filter(|found| matches!((found, asked), (Data::A(_), Asked::A)))
                        .map(|found| (target.clone(), found.clone())),
                );
            }
        }
        additional.dedup();
        Answer::Records { answers, additional }
    }

    fn add(&mut self, name: String, data: Data) {
        self.names.entry(name).or_default().insert(data);
    }

    fn add_service(
        &mut self,
        service: &Service,
        namespace: &str,
        name: &str,
        slices: &[&EndpointSlice],
    ) {
        let Some(spec) = &service.spec else { return };
        let owner = format!("{name}.{namespace}.svc.{}", self.domain);
        if spec.type_.as_deref() == Some("ExternalName") {
            if let Some(target) = &spec.external_name {
                let target = target.trim_end_matches('.').to_ascii_lowercase();
                self.add(owner, Data::Cname(format!("{target}.")));
            }
            return;
        }
        if let Some(address) = cluster_address(service) {
            self.add(owner.clone(), Data::A(address));
            self.add(reverse_name(address), Data::Ptr(owner.clone()));
            for port in spec.ports.iter().flatten() {
                let (Some(label), Ok(number)) = (&port.name, u16::try_from(port.port)) else {
                    continue;
                };
                if let Some(transport) = Transport::parse(port.protocol.as_deref()) {
                    let srv = format!("_{label}._{}.{owner}", transport.name());
                    self.add(srv, Data::Srv { port: number, target: owner.clone() });
                }
            }
        } else {
            let unready_too = spec.publish_not_ready_addresses.unwrap_or(false);
            self.add_headless(&owner, slices, unready_too);
        }
    }

    fn add_headless(&mut self, owner: &str, slices: &[&EndpointSlice], unready_too: bool) {
        self.names.entry(owner.to_owned()).or_default();
        for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
            for endpoint in slice.endpoints.iter().flatten().filter(|e| unready_too || is_ready(e))
            {
                let Some(address) = first_address(endpoint) else { continue };
                let label = match endpoint.hostname.as_deref() {
                    Some(hostname) if !hostname.is_empty() => hostname.to_owned(),
                    _ => address.to_string().replace('.', "-"),
                };
                let host = format!("{label}.{owner}");
                self.add(owner.to_owned(), Data::A(address));
                self.add(host.clone(), Data::A(address));
                if endpoint.hostname.is_some() {
                    self.add(reverse_name(address), Data::Ptr(host.clone()));
                }
                for port in slice.ports.iter().flatten() {
                    let number = port.port.and_then(|number| u16::try_from(number).ok());
                    let transport = Transport::parse(port.protocol.as_deref());
                    let (Some(label), Some(number), Some(transport)) =
                        (port.name.as_deref().filter(|name| !name.is_empty()), number, transport)
                    else {
                        continue;
                    };
                    let srv = format!("_{label}._{}.{owner}", transport.name());
                    self.add(srv, Data::Srv { port: number, target: host.clone() });
                }
            }
        }
    }

    /// Every name between a record and the domain exists too, without records.
    fn collect_parents(&mut self) {
        for kind in ["svc", "pod"] {
            self.parents.insert(format!("{kind}.{}", self.domain));
        }
        for name in self.names.keys().filter(|name| name.ends_with(&self.domain)) {
            let mut rest = name.as_str();
            while let Some((_, parent)) = rest.split_once('.')
                && parent.len() > self.domain.len()
            {
                self.parents.insert(parent.to_owned());
                rest = parent;
            }
        }
    }

    /// `10-1-0-2.<ns>.pod.` inside the domain names the pod of that address.
    fn pod_address(&self, inside: &str) -> Option<Ipv4Addr> {
        let mut labels = inside.split('.');
        let (address, namespace, kind) = (labels.next()?, labels.next()?, labels.next()?);
        if kind != "pod" || namespace.is_empty() || labels.next() != Some("") {
            return None;
        }
        let address: Ipv4Addr = address.replace('-', ".").parse().ok()?;
        self.pod_range.contains(&address).then_some(address)
    }
}

fn first_address(endpoint: &Endpoint) -> Option<Ipv4Addr> {
    endpoint.addresses.first()?.parse().ok()
}

fn reverse_name(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
}

fn reverse_address(name: &str) -> Option<Ipv4Addr> {
    let mut parts: Vec<&str> = name.strip_suffix(".in-addr.arpa.")?.split('.').collect();
    parts.reverse();
    parts.join(".").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn zone() -> Zone {
        let services = [
            json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
                "clusterIP": "10.96.0.20",
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}),
            json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {
                "clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}}),
            json!({"metadata": {"name": "mainframe", "namespace": "shop"}, "spec": {
                "type": "ExternalName", "externalName": "host.bank.example"}}),
        ]
        .map(|value| Arc::new(serde_json::from_value(value).unwrap()));
        let slices = [json!({
            "metadata": {"name": "db-1", "namespace": "shop",
                         "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.1.0.2"], "hostname": "db-0"},
                {"addresses": ["10.1.1.2"], "conditions": {"ready": false}}],
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        })]
        .map(|value| Arc::new(serde_json::from_value(value).unwrap()));
        Zone::build(
            "cluster.local",
            "10.1.0.0/16".parse().unwrap(),
            "10.96.0.0/16".parse().unwrap(),
            &services,
            &slices,
        )
    }

    fn data(answer: Answer) -> Vec<Data> {
        match answer {
            Answer::Records { answers, .. } => answers.into_iter().map(|(_, data)| data).collect(),
            other => panic!("expected records, got {other:?}"),
        }
    }

    fn a(text: &str) -> Data {
        Data::A(text.parse().unwrap())
    }

    #[test]
    fn a_service_has_its_virtual_address_and_an_empty_aaaa() {
        let zone = zone();
        let name = "WEB.shop.svc.cluster.local.";
        assert_eq!(data(zone.answer(name, Asked::A)), vec![a("10.96.0.20")]);
        assert_eq!(data(zone.answer(name, Asked::Other)), vec![]);
        assert_eq!(
            data(zone.answer("20.0.96.10.in-addr.arpa.", Asked::Ptr)),
            vec![Data::Ptr("web.shop.svc.cluster.local.".into())]
        );
    }

    #[test]
    fn a_headless_service_has_its_ready_endpoints() {
        let zone = zone();
        assert_eq!(data(zone.answer("db.shop.svc.cluster.local.", Asked::A)), vec![a("10.1.0.2")]);
        assert_eq!(
            data(zone.answer("db-0.db.shop.svc.cluster.local.", Asked::A)),
            vec![a("10.1.0.2")]
        );
        let Answer::Records { answers, additional } =
            zone.answer("_sql._tcp.db.shop.svc.cluster.local.", Asked::Srv)
        else {
            panic!("no SRV records")
        };
        let target = "db-0.db.shop.svc.cluster.local.".to_owned();
        assert_eq!(answers[0].1, Data::Srv { port: 5432, target: target.clone() });
        assert_eq!(additional, vec![(target, a("10.1.0.2"))]);
    }

    #[test]
    fn names_outside_are_refused_and_unknown_ones_inside_do_not_exist() {
        let zone = zone();
        assert_eq!(zone.answer("example.com.", Asked::A), Answer::Refused);
        assert_eq!(zone.answer("notcluster.local.", Asked::A), Answer::Refused);
        assert_eq!(zone.answer("8.8.8.8.in-addr.arpa.", Asked::Ptr), Answer::Refused);
        assert_eq!(zone.answer("9.9.1.10.in-addr.arpa.", Asked::Ptr), Answer::NoSuchName);
        assert_eq!(zone.answer("no.shop.svc.cluster.local.", Asked::A), Answer::NoSuchName);
        assert_eq!(data(zone.answer("shop.svc.cluster.local.", Asked::A)), vec![]);
        assert_eq!(data(zone.answer("cluster.local.", Asked::A)), vec![]);
    }

    #[test]
    fn pods_and_external_names_are_answered() {
        let zone = zone();
        assert_eq!(
            data(zone.answer("10-1-3-4.shop.pod.cluster.local.", Asked::A)),
            vec![a("10.1.3.4")]
        );
        assert_eq!(zone.answer("10-2-3-4.shop.pod.cluster.local.", Asked::A), Answer::NoSuchName);
        assert_eq!(
            data(zone.answer("mainframe.shop.svc.cluster.local.", Asked::A)),
            vec![Data::Cname("host.bank.example.".into())]
        );
    }
}
