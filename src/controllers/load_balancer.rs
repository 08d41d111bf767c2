//! Gives load balancers their addresses and says which node announces each.
//!
//! ```text
//! config map kube-system/load-balancer-pools ─► address ─► status.loadBalancer.ingress
//! ready nodes (with an endpoint, for the policy Local) ─► holdfast.io/announced-by
//! ```
//! Why only after a node is declared dead its addresses move: it stops by itself before
//! that (network/announce.rs), so that no two nodes answer for one address.
//! Invariant: no address is given twice; the store itself keeps that
//! (objects/service_balancer.rs), whoever believes to lead.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::informers::Informers;
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::client::api::{ListOptions, ResourceRef, SharedApi};
use crate::client::events::{EventRecorder, Severity};
use crate::client::informer::Informer;
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::logic::address_pools::{
    ANNOUNCED_BY, Asked, POOL, POOLS_NAME, POOLS_NAMESPACE, Pool, choose_address, choose_announcer,
    is_ours, parse_pools,
};
use crate::logic::balance::{SERVICE_NAME_LABEL, is_ready as is_endpoint_ready};
use crate::logic::schedule::CENTER_LABEL;
use crate::logic::schedule_filter::is_ready;

/// Nodes with this label take no traffic from outside (Kubernetes' label).
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

#[derive(Debug)]
pub(super) struct LoadBalancers {
    informers: Informers,
    pub(super) pools: Informer<Value>,
    services: Typed<Service>,
    events: EventRecorder,
}

fn is_balanced(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.type_.as_deref() == Some("LoadBalancer")
            && is_ours(spec.load_balancer_class.as_deref().unwrap_or_default())
    })
}

fn annotation<'s>(service: &'s Service, name: &str) -> &'s str {
    let found = service.metadata.annotations.as_ref().and_then(|all| all.get(name));
    found.map(String::as_str).unwrap_or_default()
}

/// The addresses that the status names.
fn addresses(service: &Service) -> Vec<Ipv4Addr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    ingress.into_iter().flatten().filter_map(|one| one.ip.as_ref()?.parse().ok()).collect()
}

fn center(node: &Node) -> Option<&str> {
    node.metadata.labels.as_ref()?.get(CENTER_LABEL).map(String::as_str)
}

fn is_excluded(node: &Node) -> bool {
    node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED))
}

fn differ(old: &Node, new: &Node) -> bool {
    is_ready(old) != is_ready(new) || old.metadata.labels != new.metadata.labels
}

impl LoadBalancers {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        let only = format!("metadata.namespace={POOLS_NAMESPACE},metadata.name={POOLS_NAME}");
        let options = ListOptions { field_selector: Some(only), ..ListOptions::default() };
        let pools = Informer::new(api.clone(), ResourceRef::of::<ConfigMap>(true), options);
        let services = Typed::new(api.clone());
        Self { informers: informers.clone(), pools, services, events }
    }

    fn pools(&self) -> Vec<Pool> {
        let Some(found) = self.pools.get(POOLS_NAMESPACE, POOLS_NAME) else { return Vec::new() };
        let data = found.get("data").and_then(Value::as_object).into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let data = data.map(|(name, value)| (name.clone(), text(value))).collect();
        let (pools, wrong) = parse_pools(&data);
        for error in wrong {
            tracing::warn!(%error, "a pool of addresses is not used");
        }
        pools
    }

    /// What other Services have.
    fn used(&self, key: &ObjectKey) -> BTreeSet<Ipv4Addr> {
        let services = self.informers.services.list();
        let others = services.iter().filter(|one| is_balanced(one) && one.key() != *key);
        others.flat_map(|one| addresses(one)).collect()
    }

    /// Nodes that may announce an address of the Service.
    fn candidates(&self, nodes: &[Arc<Node>], service: &Service, pool: &Pool) -> BTreeSet<String> {
        let spec = service.spec.as_ref();
        let policy = spec.and_then(|spec| spec.external_traffic_policy.as_deref());
        let with_endpoint = (policy == Some("Local")).then(|| self.nodes_with_endpoint(service));
        let fits = |node: &&Arc<Node>| {
            let name = node.key().name;
            let has = with_endpoint.as_ref().is_none_or(|nodes| nodes.contains(&name));
            is_ready(node) && !is_excluded(node) && pool.reaches(center(node)) && has
        };
        nodes.iter().filter(fits).map(|node| node.key().name).collect()
    }

    fn nodes_with_endpoint(&self, service: &Service) -> BTreeSet<String> {
        let key = service.key();
        let slices = self.informers.slices.list_namespace(&key.namespace);
        let own = slices.iter().filter(|slice| service_of(slice) == Some(&key.name));
        let endpoints = own.flat_map(|slice| slice.endpoints.iter().flatten());
        let ready = endpoints.filter(|endpoint| is_endpoint_ready(endpoint));
        ready.filter_map(|endpoint| endpoint.node_name.clone()).collect()
    }

    async fn write_status(&self, key: &ObjectKey, ingress: Value) -> Result<(), ControllerError> {
        let patch = json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let written = self.services.patch_merge(key, Some("status"), &patch).await;
        written.act("write the load balancer's address of", key).map(drop)
    }

    async fn write_announcer(&self, key: &ObjectKey, node: Value) -> Result<(), ControllerError> {
        let patch = json!({"metadata": {"annotations": {ANNOUNCED_BY: node}}});
        let written = self.services.patch_merge(key, None, &patch).await;
        written.act("write who announces", key).map(drop)
    }

    /// Takes away what was ours of a Service that is ours no more.
    async fn let_go(&self, key: &ObjectKey, service: &Service) -> Result<(), ControllerError> {
        if annotation(service, ANNOUNCED_BY).is_empty() {
            return Ok(());
        }
        if !addresses(service).is_empty() {
            self.write_status(key, Value::Null).await?;
        }
        self.write_announcer(key, Value::Null).await
    }

    async fn announce(
        &self,
        key: &ObjectKey,
        service: &Service,
        address: Ipv4Addr,
        pools: &[Pool],
    ) -> Result<(), ControllerError> {
        let nodes = self.informers.nodes.list();
        let pool = pools.iter().find(|pool| pool.contains(address));
        let candidates = pool.map(|pool| self.candidates(&nodes, service, pool));
        let candidates = candidates.unwrap_or_default();
        let names: BTreeSet<&str> = candidates.iter().map(String::as_str).collect();
        let current = annotation(service, ANNOUNCED_BY);
        match choose_announcer(address, &names, current) {
            Some(node) if node == current => Ok(()),
            Some(node) => {
                self.write_announcer(key, node.into()).await?;
                let text = format!("announcing from node {node:?} with protocol \"layer2\"");
                self.events.record(service, Severity::Normal, "nodeAssigned", text);
                Ok(())
            }
            // Whoever announced is not ready or gone, and there is nobody else.
            None if current.is_empty() => Ok(()),
            None => self.write_announcer(key, Value::Null).await,
        }
    }
}

fn service_of(slice: &EndpointSlice) -> Option<&String> {
    slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)
}

#[async_trait]
impl Controller for LoadBalancers {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "load-balancer"
    }

    /// One at a time: an address that was just given is in the cache before the next.
    fn workers(&self) -> usize {
        1
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let all = self.informers.services.clone();
        let balanced = move || -> Vec<ObjectKey> {
            all.list().iter().filter(|one| is_balanced(one)).map(|one| one.key()).collect()
        };
        let (by_node, by_pool) = (balanced.clone(), balanced.clone());
        let services = self.informers.services.clone();
        vec![
            // A change frees an address perhaps, which others wait for.
            Input::new(&self.informers.services, move |key, service: &Service| {
                let mut keys = vec![key.clone()];
                if is_balanced(service) && service.is_terminating() || !is_balanced(service) {
                    return keys;
                }
                keys.extend(balanced().into_iter().filter(|other| other != key));
                keys
            }),
            Input::on_difference(&self.informers.nodes, differ, move |_, _: &Node| by_node()),
            Input::new(&self.informers.slices, move |key, slice: &EndpointSlice| {
                let name = service_of(slice).cloned().unwrap_or_default();
                let key = ObjectKey::new(key.namespace.clone(), name);
                let known = services.get_key(&key).is_some_and(|one| is_balanced(&one));
                if known { vec![key] } else { Vec::new() }
            }),
            Input::new(&self.pools, move |_, _: &Value| by_pool()),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(service) = self.informers.services.get_key(key) else {
            return Ok(Requeue::Done);
        };
        if !is_balanced(&service) {
            self.let_go(key, &service).await?;
            return Ok(Requeue::Done);
        }
        if service.is_terminating() {
            return Ok(Requeue::Done);
        }
        let pools = self.pools();
        let current = addresses(&service);
        let spec = service.spec.as_ref();
        let asked = Asked {
            address: spec.and_then(|spec| spec.load_balancer_ip.as_deref()).unwrap_or_default(),
            pool: annotation(&service, POOL),
            current: current.first().copied(),
        };
        match choose_address(&pools, asked, &self.used(key)) {
            Ok(address) => {
                if current != [address] {
                    let ingress = json!([{"ip": address.to_string(), "ipMode": "VIP"}]);
                    self.write_status(key, ingress).await?;
                    let text = format!("Assigned IP [\"{address}\"]");
                    self.events.record(&*service, Severity::Normal, "IPAllocated", text);
                }
                self.announce(key, &service, address, &pools).await?;
            }
            Err(reason) => {
                if !current.is_empty() {
                    self.write_status(key, Value::Null).await?;
                    self.write_announcer(key, Value::Null).await?;
                }
                let text = format!("Failed to allocate IP for \"{key}\": {reason}");
                self.events.record(&*service, Severity::Warning, "AllocationFailed", text);
            }
        }
        Ok(Requeue::Done)
    }
}
