//! The text of a pod's `/etc/hosts` and `/etc/resolv.conf`.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::PodSpec;

use super::container_spec::hostname;
use super::labels::PodIdentity;

/// `/etc/hosts` of a pod with this address.
pub(crate) fn hosts(
    identity: &PodIdentity,
    spec: &PodSpec,
    pod_ip: &str,
    cluster_domain: &str,
) -> String {
    let name = hostname(identity, spec);
    let mut text = String::from(
        "# Written by the Holdfast agent.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    );
    match spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty()) {
        Some(subdomain) => {
            let namespace = &identity.namespace;
            text.push_str(&format!(
                "{pod_ip}\t{name}.{subdomain}.{namespace}.svc.{cluster_domain}\t{name}\n"
            ));
        }
        None => text.push_str(&format!("{pod_ip}\t{name}\n")),
    }
    for alias in spec.host_aliases.iter().flatten() {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}

/// `/etc/resolv.conf`; `host` is the node's own, for `dnsPolicy: Default`.
pub(crate) fn resolv_conf(
    identity: &PodIdentity,
    spec: &PodSpec,
    server: IpAddr,
    cluster_domain: &str,
    host: &str,
) -> String {
    let host_network = spec.host_network.unwrap_or(false);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let mut servers: Vec<String> = Vec::new();
    let mut searches: Vec<String> = Vec::new();
    let mut options: Vec<String> = Vec::new();
    match (policy, host_network) {
        ("None", _) => {}
        ("Default", _) | ("ClusterFirst", true) => {
            for line in host.lines() {
                let mut words = line.split_whitespace();
                match words.next() {
                    Some("nameserver") => servers.extend(words.map(str::to_owned)),
                    Some("search") => searches = words.map(str::to_owned).collect(),
                    Some("options") => options.extend(words.map(str::to_owned)),
                    _ => {}
                }
            }
        }
        _ => {
            let namespace = &identity.namespace;
            servers.push(server.to_string());
            searches.push(format!("{namespace}.svc.{cluster_domain}"));
            searches.push(format!("svc.{cluster_domain}"));
            searches.push(cluster_domain.to_owned());
            options.push("ndots:5".to_owned());
        }
    }
    if let Some(config) = &spec.dns_config {
        servers.extend(config.nameservers.clone().unwrap_or_default());
        searches.extend(config.searches.clone().unwrap_or_default());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            options.retain(|old| old.split(':').next() != Some(name.as_str()));
            match &option.value {
                Some(value) => options.push(format!("{name}:{value}")),
                None => options.push(name),
            }
        }
    }
    let mut text = String::new();
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity() -> PodIdentity {
        PodIdentity { namespace: "shop".into(), name: "web-1".into(), uid: "u".into() }
    }

    fn resolv(spec: serde_json::Value) -> String {
        let spec = serde_json::from_value(spec).unwrap();
        let server = "10.96.0.10".parse().unwrap();
        resolv_conf(&identity(), &spec, server, "cluster.local", "nameserver 1.2.3.4\n")
    }

    #[test]
    fn the_cluster_is_asked_first() {
        assert_eq!(
            resolv(json!({"containers": []})),
            "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
        );
    }

    #[test]
    fn policies_and_own_settings_are_followed() {
        let default = json!({"containers": [], "dnsPolicy": "Default"});
        assert_eq!(resolv(default), "nameserver 1.2.3.4\n");
        let own = json!({"containers": [], "dnsPolicy": "None", "dnsConfig":
            {"nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "1"}]}});
        assert_eq!(resolv(own), "nameserver 9.9.9.9\noptions ndots:1\n");
        let host = json!({"containers": [], "hostNetwork": true});
        assert_eq!(resolv(host), "nameserver 1.2.3.4\n");
    }

    #[test]
    fn a_pod_knows_its_own_name() {
        let spec = serde_json::from_value(json!({"containers": [], "subdomain": "peers"})).unwrap();
        let text = hosts(&identity(), &spec, "10.0.0.7", "cluster.local");
        assert!(text.contains("10.0.0.7\tweb-1.peers.shop.svc.cluster.local\tweb-1\n"), "{text}");
    }
}
