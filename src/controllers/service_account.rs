//! Brings back the `default` service account of a namespace that lost it.
//!
//! A new namespace has it from its first moment (`objects`); this is for the one that was
//! deleted, and for namespaces from before there were accounts.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use serde_json::json;

use super::graph::Tracked;
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::client::api::{ListOptions, ResourceRef, SharedApi};
use crate::client::informer::{Informer, TypedInformer};
use crate::client::key::ObjectKey;
use crate::client::typed::Kind;

pub(super) const ACCOUNTS: ResourceRef = ResourceRef::of::<ServiceAccount>(true);
const DEFAULT: &str = "default";

#[derive(Debug)]
pub(super) struct ServiceAccounts {
    api: SharedApi,
    namespaces: TypedInformer<Namespace>,
    pub(super) accounts: Informer<Tracked>,
}

impl ServiceAccounts {
    pub(super) fn new(api: &SharedApi, namespaces: &TypedInformer<Namespace>) -> Self {
        let accounts = Informer::new(api.clone(), ACCOUNTS, ListOptions::default());
        Self { api: api.clone(), namespaces: namespaces.clone(), accounts }
    }
}

#[async_trait]
impl Controller for ServiceAccounts {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "service-account"
    }

    fn workers(&self) -> usize {
        1
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        vec![
            Input::new(&self.namespaces, |key, _: &Namespace| vec![key.clone()]),
            Input::new(&self.accounts, |key, _: &Tracked| {
                let lost = key.name == DEFAULT;
                if lost { vec![ObjectKey::cluster(&*key.namespace)] } else { Vec::new() }
            }),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let living = self.namespaces.get_key(key).is_some_and(|found| !found.is_terminating());
        if !living || self.accounts.get(&key.name, DEFAULT).is_some() {
            return Ok(Requeue::Done);
        }
        let account = json!({"metadata": {"name": DEFAULT}});
        match self.api.create(&ACCOUNTS, Some(&key.name), &account).await {
            // It is there already, or its namespace is on its way out.
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(Requeue::Done),
            done => done.act("make the default service account of", key).map(|_| Requeue::Done),
        }
    }
}
