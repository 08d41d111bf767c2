//! Writes what stands behind every Service.
//!
//! ```text
//! selector ──────────────► EndpointSlices and Endpoints
//! `default/kubernetes` ──► the same, of the control nodes
//! neither: Endpoints ────► EndpointSlices that mirror what somebody wrote
//! ```
//! Invariants: a slice's name follows from its maker's uid, address type and number, so two
//! controllers never write the same endpoints under two names; slices of other makers
//! (another managed-by label) are left alone.
//! Not here: which addresses (logic/endpoints), balancing (network/).

pub(super) mod object;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use self::object::{is_mirrored, is_ours};
use super::informers::Informers;
use super::ownership;
use super::runner::{Act, Controller, ControllerError, Input, PACE_OF_SETS, Requeue};
use crate::base::limits;
use crate::client::api::{ListOptions, SharedApi};
use crate::client::informer::Informer;
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::logic::balance::SERVICE_NAME_LABEL;
use crate::logic::endpoints::{self, SliceContent, subsets};
use crate::logic::rollout_hash::{fnv1a, safe_text};
use crate::logic::rollout_selector::map_matches;
use crate::logic::schedule::CENTER_LABEL;
use crate::logic::schedule_filter;
use crate::logic::workqueue::Pace;

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const MIRROR: &str = "endpointslicemirroring-controller.k8s.io";
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
/// The API's port where the Service does not say.
const API_PORT: i32 = 6443;

#[derive(Debug)]
pub(super) struct Endpoints {
    informers: Informers,
    api: SharedApi,
    slices: Typed<EndpointSlice>,
    /// As JSON: each type that is read costs the program its size.
    pub(super) objects: Informer<Value>,
}

/// Who writes a slice, after whom it is called, and what goes with it.
struct Maker<'a> {
    name: &'static str,
    uid: &'a str,
    labels: BTreeMap<String, String>,
    owner: OwnerReference,
}

fn api_service() -> ObjectKey {
    ObjectKey::new("default", "kubernetes")
}

fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a String> {
    metadata.labels.as_ref()?.get(name)
}

impl Endpoints {
    pub(super) fn new(api: &SharedApi, informers: &Informers) -> Self {
        Self {
            informers: informers.clone(),
            api: api.clone(),
            slices: Typed::new(api.clone()),
            objects: Informer::new(api.clone(), object::ENDPOINTS, ListOptions::default()),
        }
    }

    fn center_of(&self, node: &str) -> Option<String> {
        let node = self.informers.nodes.get("", node)?;
        label(&node.metadata, CENTER_LABEL).cloned()
    }

    /// `None` where the Service's endpoints are not ours to write.
    fn contents(&self, service: &Service) -> Option<Vec<SliceContent>> {
        if service.key() == api_service() {
            return Some(self.api_contents(service));
        }
        let spec = service.spec.as_ref()?;
        let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let pods = self.informers.pods.list_namespace(&service.key().namespace);
        let chosen: Vec<Arc<Pod>> = pods
            .into_iter()
            .filter(|pod| map_matches(selector, pod.metadata.labels.as_ref()))
            .collect();
        let max = limits::ENDPOINTS_PER_SLICE;
        let zone = |node: &str| self.center_of(node);
        Some(endpoints::slices(service, chosen.iter().map(|pod| &**pod), zone, max))
    }

    fn api_contents(&self, service: &Service) -> Vec<SliceContent> {
        let port = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()?.first());
        let number = match port.and_then(|port| port.target_port.as_ref()) {
            Some(IntOrString::Int(number)) if *number > 0 => *number,
            _ => API_PORT,
        };
        let ports = vec![EndpointPort {
            name: Some(port.and_then(|port| port.name.clone()).unwrap_or_else(|| "https".into())),
            port: Some(number),
            protocol: Some("TCP".into()),
            app_protocol: None,
        }];
        let nodes = self.informers.nodes.list();
        let control: Vec<_> =
            nodes.iter().filter(|node| label(&node.metadata, CONTROL_PLANE).is_some()).collect();
        // With no ready node known, a chance is better than no address at all.
        let none_ready = !control.iter().any(|node| schedule_filter::is_ready(node));
        let mut by_type: BTreeMap<&'static str, Vec<Endpoint>> = BTreeMap::new();
        for node in control {
            let Some(address) = internal_address(node) else { continue };
            let address_type = if address.contains(':') { "IPv6" } else { "IPv4" };
            let ready = none_ready || schedule_filter::is_ready(node);
            by_type.entry(address_type).or_default().push(Endpoint {
                addresses: vec![address],
                conditions: Some(EndpointConditions {
                    ready: Some(ready),
                    serving: Some(ready),
                    terminating: Some(false),
                }),
                node_name: node.metadata.name.clone(),
                zone: label(&node.metadata, CENTER_LABEL).cloned(),
                ..Endpoint::default()
            });
        }
        let slices = by_type.into_iter().map(|(address_type, mut endpoints)| {
            endpoints.sort_by(|one, other| one.addresses.cmp(&other.addresses));
            SliceContent { address_type, ports: ports.clone(), endpoints }
        });
        slices.collect()
    }

    /// The maker's slices of a Service, as cached.
    fn held(&self, key: &ObjectKey, maker: &str) -> Vec<Arc<EndpointSlice>> {
        let slices = self.informers.slices.list_namespace(&key.namespace).into_iter();
        slices
            .filter(|slice| {
                label(&slice.metadata, SERVICE_NAME_LABEL) == Some(&key.name)
                    && label(&slice.metadata, MANAGED_BY).is_some_and(|by| by == maker)
            })
            .collect()
    }

    /// The slices that stand for the Endpoints object of a Service without a selector.
    fn mirrored(&self, key: &ObjectKey, service: Option<&Service>) -> Vec<EndpointSlice> {
        let mirrors = service.is_some_and(|service| {
            let spec = service.spec.as_ref();
            spec.is_some_and(|spec| spec.type_.as_deref() != Some("ExternalName"))
        });
        let written = self.objects.get_key(key).filter(|object| mirrors && is_mirrored(object));
        let Some(written) = written else { return Vec::new() };
        let Some(owner) = object::owner_reference(&written) else { return Vec::new() };
        let maker = Maker {
            name: MIRROR,
            uid: &owner.uid,
            labels: object::labels(&written),
            owner: owner.clone(),
        };
        let contents = subsets::mirrored(&written, limits::ENDPOINTS_PER_SLICE);
        compose(key, &maker, contents)
    }

    /// Makes the maker's slices of a Service those that are wanted.
    async fn settle(
        &self,
        key: &ObjectKey,
        maker: &str,
        wanted: Vec<EndpointSlice>,
    ) -> Result<(), ControllerError> {
        let held = self.held(key, maker);
        let mut surplus: BTreeMap<ObjectKey, &Arc<EndpointSlice>> =
            held.iter().map(|slice| (slice.key(), slice)).collect();
        for slice in wanted {
            let before = surplus.remove(&slice.key());
            self.write(slice, before).await?;
        }
        for (key, slice) in surplus {
            let deleted = self.slices.delete_if_same(&**slice, None).await;
            deleted.act("delete EndpointSlice", &key)?;
        }
        Ok(())
    }

    async fn write(
        &self,
        wanted: EndpointSlice,
        held: Option<&Arc<EndpointSlice>>,
    ) -> Result<(), ControllerError> {
        let key = wanted.key();
        let Some(held) = held else {
            return self.slices.create(&wanted).await.act("create EndpointSlice", &key).map(drop);
        };
        let same = held.endpoints == wanted.endpoints
            && held.ports == wanted.ports
            && held.metadata.labels == wanted.metadata.labels
            && held.metadata.owner_references == wanted.metadata.owner_references;
        if same {
            return Ok(());
        }
        let mut changed = (**held).clone();
        changed.endpoints = wanted.endpoints;
        changed.ports = wanted.ports;
        changed.metadata.labels = wanted.metadata.labels;
        changed.metadata.owner_references = wanted.metadata.owner_references;
        self.slices.update(&changed).await.act("update EndpointSlice", &key).map(drop)
    }
}

fn internal_address(node: &Node) -> Option<String> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses.iter().find(|address| address.type_ == "InternalIP")?;
    Some(internal.address.clone())
}

fn compose(key: &ObjectKey, maker: &Maker<'_>, contents: Vec<SliceContent>) -> Vec<EndpointSlice> {
    let mut labels = maker.labels.clone();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), key.name.clone());
    labels.insert(MANAGED_BY.to_owned(), maker.name.to_owned());
    let slices = contents.into_iter().enumerate().map(|(number, content)| {
        let identity = format!("{}/{}/{number}", maker.uid, content.address_type);
        EndpointSlice {
            metadata: ObjectMeta {
                name: Some(format!("{}-{}", key.name, safe_text(fnv1a(identity.as_bytes()), 5))),
                namespace: Some(key.namespace.clone()),
                labels: Some(labels.clone()),
                owner_references: Some(vec![maker.owner.clone()]),
                ..ObjectMeta::default()
            },
            address_type: content.address_type.to_owned(),
            endpoints: Some(content.endpoints),
            ports: Some(content.ports),
        }
    });
    slices.collect()
}

#[async_trait]
impl Controller for Endpoints {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpoints"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let services = self.informers.services.clone();
        let all_services = self.informers.services.clone();
        vec![
            Input::new(&self.informers.services, |key, _| vec![key.clone()]),
            Input::new(&self.informers.slices, |key, slice: &EndpointSlice| {
                let service = label(&slice.metadata, SERVICE_NAME_LABEL);
                let key = service.map(|name| ObjectKey::new(key.namespace.clone(), name.clone()));
                key.into_iter().collect()
            }),
            Input::new(&self.objects, |key, _: &Value| vec![key.clone()]),
            Input::new(&self.informers.pods, move |key, pod: &Pod| {
                let near = services.list_namespace(&key.namespace);
                let fitting = near.iter().filter(|service| {
                    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                    selector.is_some_and(|selector| {
                        !selector.is_empty() && map_matches(selector, pod.metadata.labels.as_ref())
                    })
                });
                fitting.map(|service| service.key()).collect()
            }),
            // Heartbeats change nodes all the time; only control nodes concern a Service
            // by themselves, and centers are read when pods change.
            Input::new(&self.informers.nodes, move |_, node: &Node| {
                let control = label(&node.metadata, CONTROL_PLANE).is_some();
                let known = all_services.get_key(&api_service()).is_some();
                if control && known { vec![api_service()] } else { Vec::new() }
            }),
        ]
    }

    /// Every pod that becomes ready changes one Endpoints object as a whole.
    fn pace(&self) -> Option<Pace> {
        Some(PACE_OF_SETS)
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let service = self.informers.services.get_key(key);
        let service = service.filter(|service| !service.is_terminating());
        match &service {
            None => {
                self.settle(key, MANAGER, Vec::new()).await?;
                let held = self.objects.get_key(key).filter(|held| is_ours(held));
                if let Some(held) = held {
                    object::delete(&self.api, key, &held).await?;
                }
            }
            Some(service) => {
                if let Some(contents) = self.contents(service) {
                    let told = object::told(service, &contents);
                    let maker = Maker {
                        name: MANAGER,
                        uid: service.uid(),
                        labels: service.metadata.labels.clone().unwrap_or_default(),
                        owner: ownership::controller_reference(&**service),
                    };
                    self.settle(key, MANAGER, compose(key, &maker, contents)).await?;
                    object::write(&self.api, key, told, self.objects.get_key(key)).await?;
                    return self.settle(key, MIRROR, Vec::new()).await.map(|()| Requeue::Done);
                }
            }
        }
        self.settle(key, MIRROR, self.mirrored(key, service.as_deref())).await?;
        Ok(Requeue::Done)
    }
}
