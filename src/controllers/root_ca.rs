//! Keeps the cluster's authority in every namespace, for clients in pods.
//!
//! Source: `pkg/controller/certificates/rootcacertpublisher`.
//! Invariant: the config map says what this control node's `ca.crt` says, whoever changes or
//! deletes it; what else is in its metadata stays.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use serde::Deserialize;
use serde_json::{Value, json};

use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::client::api::{ListOptions, PatchKind, ResourceRef, SharedApi};
use crate::client::informer::{Informer, TypedInformer};
use crate::client::key::ObjectKey;
use crate::client::typed::Kind;
use crate::logic::pod_account::ROOT_CA;

const MAPS: ResourceRef = ResourceRef::of::<ConfigMap>(true);
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// What is looked at of a config map.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Held {
    metadata: Value,
    data: Value,
}

#[derive(Debug)]
pub(super) struct RootCa {
    api: SharedApi,
    certificate: String,
    namespaces: TypedInformer<Namespace>,
    pub(super) maps: Informer<Held>,
}

impl RootCa {
    pub(super) fn new(
        api: &SharedApi,
        namespaces: &TypedInformer<Namespace>,
        certificate: &str,
    ) -> Self {
        let own = ListOptions {
            field_selector: Some(format!("metadata.name={ROOT_CA}")),
            ..ListOptions::default()
        };
        let maps = Informer::new(api.clone(), MAPS, own);
        let certificate = certificate.to_owned();
        Self { api: api.clone(), certificate, namespaces: namespaces.clone(), maps }
    }

    fn content(&self) -> Value {
        json!({
            "metadata": {"name": ROOT_CA,
                "annotations": {"kubernetes.io/description": DESCRIPTION}},
            "data": {"ca.crt": self.certificate},
        })
    }

    fn is_right(&self, held: &Held) -> bool {
        held.data == json!({"ca.crt": self.certificate})
            && held.metadata["annotations"]["kubernetes.io/description"] == DESCRIPTION
    }
}

#[async_trait]
impl Controller for RootCa {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "root-ca-certificate-publisher"
    }

    fn workers(&self) -> usize {
        1
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        vec![
            Input::new(&self.namespaces, |key, _: &Namespace| vec![key.clone()]),
            Input::new(&self.maps, |key, _: &Held| vec![ObjectKey::cluster(&*key.namespace)]),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let living = self.namespaces.get_key(key).is_some_and(|found| !found.is_terminating());
        let held = self.maps.get(&key.name, ROOT_CA);
        if !living || held.as_ref().is_some_and(|held| self.is_right(held)) {
            return Ok(Requeue::Done);
        }
        let namespace = Some(key.name.as_str());
        let done = if held.is_some() {
            let mut change = self.content();
            // A merge would leave what others have put beside it.
            let strangers = held.iter().filter_map(|held| held.data.as_object());
            for name in strangers.flat_map(|data| data.keys()).filter(|name| *name != "ca.crt") {
                change["data"][name] = Value::Null;
            }
            self.api.patch(&MAPS, namespace, ROOT_CA, None, PatchKind::Merge, &change).await
        } else {
            self.api.create(&MAPS, namespace, &self.content()).await
        };
        match done {
            // It is there already, or its namespace is on its way out.
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(Requeue::Done),
            done => done.act("publish the authority in", key).map(|_| Requeue::Done),
        }
    }
}
