//! The controllers that look at every resource there is: collection, the emptying of
//! namespaces, quotas. They begin anew when a definition makes or takes away a kind.
//!
//! Why anew: what they look at is decided when they start, and all of them are driven by
//! what is stored, so beginning again is one more look and nothing else. The caches live
//! on: only those of kinds that came or went are started or stopped.
//! Invariant: no two generations of these controllers run at once.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::gc::Collector;
use super::graph::{self, Graph, Tracked, resource_of};
use super::informers::Informers;
use super::namespace::Namespaces;
use super::quota::{Bounds, Quotas};
use super::runner;
use crate::client::api::{ResourceRef, SharedApi};
use crate::client::informer::{Informer, TypedInformer};
use crate::model::kinds::Kind;

/// One version of every kind that a definition makes, as they come and go.
pub type CustomKindsWatch = watch::Receiver<Arc<Vec<&'static Kind>>>;

pub(super) struct Collection {
    pub(super) api: SharedApi,
    /// Of the table.
    pub(super) collected: Vec<ResourceRef>,
    pub(super) custom: Option<CustomKindsWatch>,
    pub(super) informers: Informers,
    pub(super) namespaces: TypedInformer<Namespace>,
    pub(super) quotas: Informer<Bounds>,
}

impl Collection {
    /// Runs them until cancelled; returns early only if one of them ended.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let mut caches = Caches::default();
        loop {
            let kinds = self.custom.as_mut().map(|custom| custom.borrow_and_update().clone());
            let kinds = kinds.unwrap_or_default();
            let custom = kinds.iter().map(|kind| resource_of(kind));
            let resources: Vec<ResourceRef> =
                self.collected.iter().cloned().chain(custom).collect();
            let graph = caches.graph(&self.api, resources, &cancel);
            let stop = cancel.child_token();
            let mut tasks = JoinSet::new();
            let collector = Collector::new(&self.api, &graph);
            tasks.spawn(runner::run(Arc::new(collector), stop.clone()));
            let namespaces = Namespaces::new(&self.api, &self.namespaces, &graph);
            tasks.spawn(runner::run(Arc::new(namespaces), stop.clone()));
            let quotas = Quotas::new(&self.api, &self.informers, &graph, &self.quotas, &kinds);
            tasks.spawn(runner::run(Arc::new(quotas), stop.clone()));
            let goes_on = tokio::select! {
                () = cancel.cancelled() => false,
                _ = tasks.join_next() => false,
                () = changed(&mut self.custom) => true,
            };
            stop.cancel();
            while tasks.join_next().await.is_some() {}
            if !goes_on {
                break;
            }
        }
        caches.stop().await;
    }
}

async fn changed(custom: &mut Option<CustomKindsWatch>) {
    let is_changed = match custom {
        Some(custom) => custom.changed().await.is_ok(),
        None => false,
    };
    // Nobody makes kinds, or nobody does any more.
    if !is_changed {
        std::future::pending().await
    }
}

/// The caches of all resources, each as long as it is looked at.
#[derive(Default)]
struct Caches {
    held: HashMap<ResourceRef, (Informer<Tracked>, CancellationToken)>,
    tasks: JoinSet<()>,
}

impl Caches {
    fn graph(
        &mut self,
        api: &SharedApi,
        resources: Vec<ResourceRef>,
        cancel: &CancellationToken,
    ) -> Graph {
        self.held.retain(|resource, (_, stop)| {
            let stays = resources.contains(resource);
            if !stays {
                stop.cancel();
            }
            stays
        });
        // Those that were stopped have ended, or will.
        while self.tasks.try_join_next().is_some() {}
        let with_cache = |resource: ResourceRef| {
            let (informer, _) = self.held.entry(resource.clone()).or_insert_with(|| {
                let informer = graph::informer(api, &resource);
                let stop = cancel.child_token();
                self.tasks.spawn(informer.clone().run(stop.clone()));
                (informer, stop)
            });
            (resource, informer.clone())
        };
        Graph { resources: resources.into_iter().map(with_cache).collect() }
    }

    async fn stop(mut self) {
        self.held.values().for_each(|(_, stop)| stop.cancel());
        while self.tasks.join_next().await.is_some() {}
    }
}
