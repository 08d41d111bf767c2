//! Says in each Ingress's status where it is served: the nodes that run the proxy.
//!
//! Why by the leader and not by the proxies: each would have to know what the others do.
//! Not here: serving (network/ingress).

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::informers::Informers;
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::client::api::{ListOptions, PatchKind, ResourceRef, SharedApi};
use crate::client::informer::Informer;
use crate::client::key::ObjectKey;
use crate::client::typed::Kind;
use crate::logic::ingress::{CONTROLLER, NODE_LABEL, class_of, proxy_nodes};
use crate::logic::schedule_filter::is_ready;

const GROUP: &str = "networking.k8s.io";
pub(super) const INGRESSES: ResourceRef = ResourceRef {
    group: GROUP,
    version: "v1",
    kind: "Ingress",
    plural: "ingresses",
    namespaced: true,
};
const CLASSES: ResourceRef = ResourceRef {
    group: GROUP,
    version: "v1",
    kind: "IngressClass",
    plural: "ingressclasses",
    namespaced: false,
};

#[derive(Debug)]
pub(super) struct IngressStatus {
    api: SharedApi,
    informers: Informers,
    pub(super) ingresses: Informer<Value>,
    pub(super) classes: Informer<Value>,
}

fn differ(old: &Node, new: &Node) -> bool {
    is_ready(old) != is_ready(new) || old.metadata.labels != new.metadata.labels
}

fn internal_address(node: &Node) -> Option<&str> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses.iter().find(|address| address.type_ == "InternalIP")?;
    Some(&internal.address)
}

impl IngressStatus {
    pub(super) fn new(api: &SharedApi, informers: &Informers) -> Self {
        let all = ListOptions::default();
        Self {
            api: api.clone(),
            informers: informers.clone(),
            ingresses: Informer::new(api.clone(), INGRESSES, all.clone()),
            classes: Informer::new(api.clone(), CLASSES, all),
        }
    }

    /// Addresses of the ready nodes that run the proxy.
    fn addresses(&self) -> Vec<String> {
        let nodes = self.informers.nodes.list();
        let labels: Vec<(String, Option<&str>)> = nodes
            .iter()
            .map(|node| {
                let labels = node.metadata.labels.as_ref();
                let label = labels.and_then(|labels| labels.get(NODE_LABEL)).map(String::as_str);
                (node.key().name, label)
            })
            .collect();
        let runs = proxy_nodes(labels.iter().map(|(name, label)| (name.as_str(), *label)));
        let serving = nodes.iter().filter(|node| {
            is_ready(node) && runs.contains(&node.metadata.name.as_deref().unwrap_or_default())
        });
        let mut found: Vec<String> =
            serving.filter_map(|node| internal_address(node)).map(str::to_owned).collect();
        found.sort();
        found
    }

    fn is_ours(&self, ingress: &Value) -> bool {
        let class = self.classes.get("", class_of(ingress));
        class.is_some_and(|class| class["spec"]["controller"] == CONTROLLER)
    }
}

#[async_trait]
impl Controller for IngressStatus {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "ingress-status"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let all = self.ingresses.clone();
        let keys = move || all.entries().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        let by_class = keys.clone();
        vec![
            Input::new(&self.ingresses, |key, _: &Value| vec![key.clone()]),
            Input::new(&self.classes, move |_, _: &Value| by_class()),
            Input::on_difference(&self.informers.nodes, differ, move |_, _: &Node| keys()),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(ingress) = self.ingresses.get_key(key) else { return Ok(Requeue::Done) };
        if !self.is_ours(&ingress) {
            return Ok(Requeue::Done);
        }
        let points: Vec<Value> =
            self.addresses().into_iter().map(|address| json!({"ip": address})).collect();
        let wanted = Value::Array(points);
        let held = ingress.pointer("/status/loadBalancer/ingress").cloned();
        if held.unwrap_or_else(|| json!([])) == wanted {
            return Ok(Requeue::Done);
        }
        let patch = json!({"status": {"loadBalancer": {"ingress": wanted}}});
        let scope = key.scope();
        let (name, part) = (&key.name, Some("status"));
        match self.api.patch(&INGRESSES, scope, name, part, PatchKind::Merge, &patch).await {
            Err(error) if error.is_not_found() => Ok(Requeue::Done),
            done => done.act("write the addresses of ingress", key).map(|_| Requeue::Done),
        }
    }
}
