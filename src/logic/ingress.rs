//! From Ingress objects to where a request goes.
//!
//! ```text
//! host  exact ─► *.rest (one name in its place) ─► any host
//!   path  longest first; Exact before Prefix of the same length
//!     none: the Ingress's own default backend ─► the oldest default backend of all ─► 404
//! backend ─► Service and port ─► addresses of its endpoints, and by weight among Services
//! ```
//! Why endpoints and not the Service's address: the proxy must know who answered, to try
//! another one when a pod went away a moment ago.
//! Invariants: of two Ingresses that claim the same host and path the older one counts,
//! as in Kubernetes' own reference controller; equal objects give an equal table.
//! Not here: listening and sending (network/ingress).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;

use super::service_ports::ready_addresses;

/// The controller whose classes are served here, and the class that every cluster has.
pub const CONTROLLER: &str = "holdfast.io/ingress";
pub const CLASS: &str = "holdfast";
/// On a class: Ingresses without one are of this one.
pub const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";
/// Kubernetes' older word for `spec.ingressClassName`.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// On an Ingress: `web=90,web-next=10` spreads what goes to one of them by weight.
pub const WEIGHTS: &str = "holdfast.io/weights";
/// On an Ingress: `h2c` speaks HTTP/2 without TLS to its backends (gRPC), `http` never.
pub const PROTOCOL: &str = "holdfast.io/backend-protocol";
/// On an Ingress: `true` sends clients of hosts with TLS there.
pub const REDIRECT: &str = "holdfast.io/ssl-redirect";
/// On nodes: only nodes that say `true` run the proxy, where any does.
pub const NODE_LABEL: &str = "holdfast.io/ingress";

/// What a backend's pods speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speaks {
    /// HTTP/1.1, and HTTP/2 for what can only be gRPC.
    Http,
    /// HTTP/2 from the first byte, without TLS.
    H2c,
    /// HTTP/1.1 whatever comes.
    Http1,
}

/// A Service's port as the proxy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `namespace/service:port`, for people.
    pub name: String,
    pub targets: Vec<SocketAddr>,
    pub speaks: Speaks,
}

/// Where requests of a path go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// With their weights, none of which is 0.
    pub choices: Vec<(u32, Upstream)>,
    /// Clients that come without TLS are sent there.
    pub redirect: bool,
}

impl Route {
    /// The choice that a number below the sum of all weights falls on.
    pub fn choose(&self, draw: impl FnOnce(u32) -> u32) -> Option<&Upstream> {
        if let [(_, only)] = &self.choices[..] {
            return Some(only);
        }
        let sum: u32 = self.choices.iter().map(|(weight, _)| weight).sum();
        let mut left = if sum == 0 { return None } else { draw(sum) };
        for (weight, upstream) in &self.choices {
            if left < *weight {
                return Some(upstream);
            }
            left -= weight;
        }
        None
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PathRule {
    path: String,
    exact: bool,
    route: Route,
}

impl PathRule {
    /// Element by element, as the API says: `/a` is a prefix of `/a/b`, not of `/ab`.
    fn matches(&self, path: &str) -> bool {
        if self.exact {
            return self.path == path;
        }
        let prefix = self.path.trim_end_matches('/');
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Longer paths first, exact ones before prefixes.
    fn rank(&self) -> (usize, bool) {
        let length =
            if self.exact { self.path.len() } else { self.path.trim_end_matches('/').len() };
        (length, self.exact)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Host {
    paths: Vec<PathRule>,
    default: Option<Route>,
}

/// All routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Wildcards as `*.rest`, any host as the empty name.
    hosts: BTreeMap<String, Host>,
    default: Option<Route>,
}

/// What the routes are made from.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    pub ingresses: &'a [Arc<Value>],
    pub classes: &'a [Arc<Value>],
    pub services: &'a [Arc<Service>],
    pub slices: &'a [Arc<EndpointSlice>],
}

fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn note<'v>(object: &'v Value, name: &str) -> &'v str {
    let notes = object.pointer("/metadata/annotations");
    notes.and_then(|notes| notes.get(name)).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The class that an Ingress names, by field or by the older annotation.
pub fn class_of(ingress: &Value) -> &str {
    match text(ingress, "/spec/ingressClassName") {
        "" => note(ingress, CLASS_ANNOTATION),
        class => class,
    }
}

/// The class of Ingresses that name none: the newest that says so.
pub fn default_class<'v>(classes: impl Iterator<Item = &'v Value>) -> Option<&'v str> {
    let defaults = classes.filter(|class| note(class, DEFAULT_CLASS) == "true");
    let newest = defaults.max_by_key(|class| {
        let age = text(class, "/metadata/creationTimestamp");
        (age, std::cmp::Reverse(text(class, "/metadata/name")))
    });
    newest.map(|class| text(class, "/metadata/name"))
}

/// Those of our classes, oldest first.
pub fn ours<'v>(ingresses: &'v [Arc<Value>], classes: &[Arc<Value>]) -> Vec<&'v Value> {
    let names: BTreeSet<&str> = classes
        .iter()
        .filter(|class| text(class, "/spec/controller") == CONTROLLER)
        .map(|class| text(class, "/metadata/name"))
        .collect();
    let mut found: Vec<&Value> = ingresses
        .iter()
        .map(AsRef::as_ref)
        .filter(|ingress| names.contains(class_of(ingress)))
        .collect();
    found.sort_by_key(|ingress| {
        let part = |pointer| text(ingress, pointer);
        let age = part("/metadata/creationTimestamp");
        (age, part("/metadata/namespace"), part("/metadata/name"))
    });
    found
}

/// The nodes that run the proxy, by their names and labels.
pub fn proxy_nodes<'n>(nodes: impl Iterator<Item = (&'n str, Option<&'n str>)>) -> Vec<&'n str> {
    let all: Vec<_> = nodes.collect();
    let marked = all.iter().any(|(_, label)| *label == Some("true"));
    let runs = |label: &Option<&str>| {
        if marked { *label == Some("true") } else { *label != Some("false") }
    };
    all.iter().filter(|(_, label)| runs(label)).map(|(name, _)| *name).collect()
}

/// Hosts and the Secrets with their certificates: `(host, namespace, secret)`.
pub fn certificates(ingresses: &[&Value]) -> BTreeSet<(String, String, String)> {
    let mut found = BTreeSet::new();
    for ingress in ingresses {
        let namespace = text(ingress, "/metadata/namespace");
        for tls in list(ingress, "/spec/tls") {
            let secret = text(tls, "/secretName");
            if secret.is_empty() {
                continue;
            }
            let named = list(tls, "/hosts").iter().filter_map(Value::as_str);
            let mut hosts: Vec<&str> = named.collect();
            if hosts.is_empty() {
                hosts.push("");
            }
            for host in hosts {
                found.insert((host.to_lowercase(), namespace.into(), secret.into()));
            }
        }
    }
    found
}

/// The name under which a host is found: itself, or with `*` in its first place.
pub fn host_candidates(host: &str) -> impl Iterator<Item = String> {
    let host = host.trim_end_matches('.').to_lowercase();
    let wildcard = host.split_once('.').map(|(_, rest)| format!("*.{rest}"));
    [Some(host), wildcard].into_iter().flatten()
}

impl Routes {
    pub fn build(world: World<'_>) -> Self {
        let mut routes = Self::default();
        for ingress in ours(world.ingresses, world.classes) {
            let builder = Builder { world, ingress };
            let default = ingress.pointer("/spec/defaultBackend").map(|one| builder.route(one, ""));
            for rule in list(ingress, "/spec/rules") {
                let name = text(rule, "/host").to_lowercase();
                let host = routes.hosts.entry(name.clone()).or_default();
                for path in list(rule, "/http/paths") {
                    let path_text = text(path, "/path");
                    let path_text = if path_text.is_empty() { "/" } else { path_text };
                    let rule = PathRule {
                        path: path_text.to_owned(),
                        exact: text(path, "/pathType") == "Exact",
                        route: builder.route(&path["backend"], &name),
                    };
                    let taken =
                        |held: &PathRule| held.path == rule.path && held.exact == rule.exact;
                    if !host.paths.iter().any(taken) {
                        host.paths.push(rule);
                    }
                }
                if host.default.is_none() {
                    host.default = default.clone();
                }
            }
            if routes.default.is_none() {
                routes.default = default;
            }
        }
        for host in routes.hosts.values_mut() {
            host.paths.sort_by_key(|rule| std::cmp::Reverse(rule.rank()));
        }
        routes
    }

    /// Every pod that a request may go to.
    pub fn targets(&self) -> BTreeSet<SocketAddr> {
        let hosts = self.hosts.values();
        let routes = hosts.flat_map(|host| {
            host.paths.iter().map(|rule| &rule.route).chain(host.default.as_ref())
        });
        let choices = routes.chain(self.default.as_ref()).flat_map(|route| &route.choices);
        choices.flat_map(|(_, upstream)| upstream.targets.iter().copied()).collect()
    }

    /// Where a request goes; `host` without its port.
    pub fn find(&self, host: &str, path: &str) -> Option<&Route> {
        let candidates = host_candidates(host).chain(std::iter::once(String::new()));
        let hosts: Vec<&Host> = candidates.filter_map(|name| self.hosts.get(&name)).collect();
        let paths = hosts.iter().flat_map(|host| {
            let found = host.paths.iter().find(|rule| rule.matches(path));
            found.map(|rule| &rule.route)
        });
        let defaults = hosts.iter().filter_map(|host| host.default.as_ref());
        paths.chain(defaults).next().or(self.default.as_ref())
    }
}

struct Builder<'a> {
    world: World<'a>,
    ingress: &'a Value,
}

impl Builder<'_> {
    fn route(&self, backend: &Value, host: &str) -> Route {
        let name = text(backend, "/service/name");
        let weights = weights(note(self.ingress, WEIGHTS));
        let listed = weights.iter().any(|(service, _)| service == name);
        let choices = if listed {
            let some = weights.iter().filter(|(_, weight)| *weight > 0);
            some.map(|(service, weight)| (*weight, self.upstream(service, backend))).collect()
        } else {
            vec![(1, self.upstream(name, backend))]
        };
        let secured = list(self.ingress, "/spec/tls").iter().any(|tls| {
            let hosts = list(tls, "/hosts");
            hosts.is_empty() || hosts.iter().any(|one| one == host)
        });
        Route { choices, redirect: secured && note(self.ingress, REDIRECT) == "true" }
    }

    fn upstream(&self, name: &str, backend: &Value) -> Upstream {
        let namespace = text(self.ingress, "/metadata/namespace");
        let service = self.world.services.iter().find(|one| {
            one.metadata.name.as_deref() == Some(name)
                && one.metadata.namespace.as_deref() == Some(namespace)
        });
        let (named, number) =
            (text(backend, "/service/port/name"), &backend["service"]["port"]["number"]);
        let number = number.as_i64().unwrap_or_default();
        let fits = |port: &&ServicePort| match named {
            "" => i64::from(port.port) == number,
            named => port.name.as_deref() == Some(named),
        };
        let ports = service.and_then(|service| service.spec.as_ref()?.ports.as_ref());
        let port = ports.into_iter().flatten().find(fits);
        let targets = match (service, port) {
            (Some(service), Some(port)) => ready_addresses(service, port, self.world.slices),
            _ => Vec::new(),
        };
        let label = if named.is_empty() { number.to_string() } else { named.to_owned() };
        let app = port.and_then(|port| port.app_protocol.as_deref()).unwrap_or_default();
        let speaks = match (note(self.ingress, PROTOCOL).to_lowercase().as_str(), app) {
            ("h2c" | "grpc", _) => Speaks::H2c,
            ("http", _) => Speaks::Http1,
            (_, "kubernetes.io/h2c" | "grpc") => Speaks::H2c,
            _ => Speaks::Http,
        };
        Upstream { name: format!("{namespace}/{name}:{label}"), targets, speaks }
    }
}

/// `service=weight` each; what cannot be read is not there.
fn weights(text: &str) -> Vec<(String, u32)> {
    let parts = text.split(',').filter_map(|part| {
        let (name, weight) = part.split_once('=')?;
        let weight = weight.trim().parse::<u32>().ok()?;
        Some((name.trim().to_owned(), weight.min(1_000_000)))
    });
    parts.collect()
}

#[cfg(test)]
#[path = "ingress_tests.rs"]
mod tests;
