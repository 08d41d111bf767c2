//! Empties a namespace that is being deleted, and lets it go once it is empty.
//!
//! Invariant: the namespace is let go only after the API itself listed nothing in it.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

use super::graph::{Graph, Tracked};
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::client::api::{ApiError, DeleteOptions, ListOptions, SharedApi};
use crate::client::informer::TypedInformer;
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed, from_value};

/// How soon a namespace whose pods are still leaving is looked at again at the latest.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Namespaces {
    api: SharedApi,
    namespaces: TypedInformer<Namespace>,
    graph: Graph,
}

impl Namespaces {
    pub(super) fn new(
        api: &SharedApi,
        namespaces: &TypedInformer<Namespace>,
        graph: &Graph,
    ) -> Self {
        Self { api: api.clone(), namespaces: namespaces.clone(), graph: graph.clone() }
    }

    /// Asks for the deletion of everything in it; answers how much there still is.
    async fn empty(&self, namespace: &str) -> Result<usize, ControllerError> {
        let mut left = 0;
        for (resource, _) in self.graph.resources.iter().filter(|(resource, _)| resource.namespaced)
        {
            let list = self.api.list(resource, Some(namespace), &ListOptions::default()).await;
            let items = match list {
                // Its definition went meanwhile, and all its objects before it.
                Err(error) if error.is_not_found() => continue,
                list => list.act("list what is in namespace", &namespace)?.items,
            };
            left += items.len();
            for item in items {
                let item: Tracked = from_value(item).act("read an object of", &namespace)?;
                if item.is_terminating() {
                    continue;
                }
                let options = DeleteOptions {
                    uid: Some(item.metadata.uid.clone()),
                    propagation_policy: Some("Background".to_owned()),
                    ..DeleteOptions::default()
                };
                let name = &item.metadata.name;
                match self.api.delete(resource, Some(namespace), name, &options).await {
                    Err(error) if !error.is_not_found() && !error.is_conflict() => {
                        return Err(error).act("delete with its namespace", &item.key());
                    }
                    _ => {}
                }
            }
        }
        Ok(left)
    }

    /// Removes `kubernetes` from `spec.finalizers`; the API then removes the namespace.
    async fn let_go(&self, key: &ObjectKey) -> Result<(), ApiError> {
        let Some(mut namespace) = Typed::<Namespace>::new(self.api.clone()).find(key).await? else {
            return Ok(());
        };
        if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut())
        {
            finalizers.retain(|finalizer| finalizer != "kubernetes");
        }
        let mut value: Value = crate::client::typed::to_value(&namespace)?;
        value["spec"]["finalizers"] =
            serde_json::json!(namespace.spec.and_then(|spec| spec.finalizers).unwrap_or_default());
        let subresource = Some("finalize");
        match self.api.update(&Namespace::REF, None, &key.name, subresource, &value).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Controller for Namespaces {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "namespace"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let mut inputs = vec![Input::new(&self.namespaces, |key, _: &Namespace| vec![key.clone()])];
        for (_, informer) in self.graph.resources.iter().filter(|(resource, _)| resource.namespaced)
        {
            let namespaces = self.namespaces.clone();
            inputs.push(Input::new(informer, move |key, _: &Tracked| {
                let ending = namespaces.get("", &key.namespace);
                let ending = ending.is_some_and(|namespace| namespace.is_terminating());
                if ending { vec![ObjectKey::cluster(&*key.namespace)] } else { Vec::new() }
            }));
        }
        inputs
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let ending = self.namespaces.get_key(key);
        if !ending.is_some_and(|namespace| namespace.is_terminating()) {
            return Ok(Requeue::Done);
        }
        if self.empty(&key.name).await? > 0 {
            return Ok(Requeue::After(LOOK_AGAIN));
        }
        self.let_go(key).await.act("let go of namespace", key)?;
        Ok(Requeue::Done)
    }
}
