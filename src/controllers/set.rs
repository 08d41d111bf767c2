//! All controllers together: started on the leader, stopped with its leadership.
//!
//! Why everything is made anew at each start: a cache from an earlier term would be
//! older than what another leader wrote since.
//! Invariants: `run` returns only after every task it started has ended; should one end
//! by itself, all are stopped and the set reports it by returning.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::autoscaler::Autoscalers;
use super::collection::{Collection, CustomKindsWatch};
use super::cronjob::CronJobs;
use super::daemonset::DaemonSets;
use super::deployment::Deployments;
use super::disruption::Disruptions;
use super::endpoints::Endpoints;
use super::event_ttl::EventTtl;
use super::graph::resource_of;
use super::informers::Informers;
use super::ingress_status::IngressStatus;
use super::job::Jobs;
use super::load_balancer::LoadBalancers;
use super::node_life::{NodeLife, Patience};
use super::pod_cleanup::PodCleanup;
use super::quota;
use super::replicaset::ReplicaSets;
use super::role_aggregation::RoleAggregation;
use super::root_ca::RootCa;
use super::runner::{self, Controller};
use super::scheduler::Scheduler;
use super::service_account::ServiceAccounts;
use super::statefulset::StatefulSets;
use super::taint_eviction::TaintEviction;
use super::volumes::Volumes;
use crate::client::api::{ListOptions, ResourceRef, SharedApi};
use crate::client::events::EventRecorder;
use crate::client::informer::TypedInformer;
use crate::client::usage::SharedUsage;
use crate::model::kinds::collected;

/// What the set works with.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// Resources in which objects can own or be owned, and that are emptied with their
    /// namespace. An owner of a resource that is not listed counts as living.
    pub collected: Vec<ResourceRef>,
    /// The host's name, for the events' source.
    pub host: String,
    /// Who knows what pods use; without one autoscalers have nothing to go by.
    pub usage: Option<SharedUsage>,
    /// The cluster's authority, PEM, that every namespace is told; none where it is empty.
    pub authority: String,
    /// Kinds that definitions make; none where there is nobody to ask.
    pub custom: Option<CustomKindsWatch>,
}

impl Default for ControllerOptions {
    fn default() -> Self {
        let collected = collected().into_iter().map(resource_of).collect();
        Self { collected, host: String::new(), usage: None, authority: String::new(), custom: None }
    }
}

/// All controllers; see the module.
#[derive(Debug)]
pub struct ControllerSet {
    options: ControllerOptions,
    patience: Patience,
}

impl ControllerSet {
    pub fn new(options: ControllerOptions) -> Self {
        Self { options, patience: Patience::default() }
    }

    /// Shortens the silences, for tests.
    #[cfg(test)]
    pub(super) fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Runs everything until cancelled; returns early only if a part of it ended.
    pub async fn run(&self, api: SharedApi, cancel: CancellationToken) {
        let stop = cancel.child_token();
        let mut tasks = JoinSet::new();
        self.start(&api, &mut tasks, &stop);
        tokio::select! {
            () = cancel.cancelled() => {}
            ended = tasks.join_next() => {
                tracing::error!(?ended, "a controller ended by itself; stopping all");
            }
        }
        stop.cancel();
        while tasks.join_next().await.is_some() {}
    }

    fn start(&self, api: &SharedApi, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        let host = &self.options.host;
        let recorder = |component: &str, tasks: &mut JoinSet<()>| {
            let (recorder, writer) = EventRecorder::new(api.clone(), component, host);
            let stop = stop.clone();
            tasks.spawn(async move {
                writer.run(stop.clone()).await;
                // The last recorder may be gone before the stop; that is no failure.
                stop.cancelled().await;
            });
            recorder
        };
        let informers = Informers::new(api);
        let namespaces = TypedInformer::<Namespace>::typed(api.clone(), ListOptions::default());
        let event_ttl = EventTtl::new(api);
        let accounts = ServiceAccounts::new(api, &namespaces);
        let aggregation = RoleAggregation::new(api);
        let collection = Collection {
            api: api.clone(),
            collected: self.options.collected.clone(),
            custom: self.options.custom.clone(),
            informers: informers.clone(),
            namespaces: namespaces.clone(),
            quotas: quota::bounds(api),
        };

        let events = recorder("deployment-controller", tasks);
        spawn(Deployments::new(api, &informers, events), tasks, stop);
        let events = recorder("replicaset-controller", tasks);
        spawn(ReplicaSets::new(api, &informers, events), tasks, stop);
        let events = recorder("statefulset-controller", tasks);
        spawn(StatefulSets::new(api, &informers, events), tasks, stop);
        let events = recorder("daemonset-controller", tasks);
        spawn(DaemonSets::new(api, &informers, events), tasks, stop);
        let events = recorder("job-controller", tasks);
        spawn(Jobs::new(api, &informers, events), tasks, stop);
        let events = recorder("cronjob-controller", tasks);
        spawn(CronJobs::new(api, &informers, events), tasks, stop);
        let events = recorder("taint-eviction-controller", tasks);
        spawn(TaintEviction::new(api, &informers, events), tasks, stop);
        let events = recorder("default-scheduler", tasks);
        spawn(Scheduler::new(api, &informers, events), tasks, stop);
        let events = recorder("controllermanager", tasks);
        spawn(Disruptions::new(api, &informers, events), tasks, stop);
        let events = recorder("horizontal-pod-autoscaler", tasks);
        let usage = self.options.usage.clone();
        let custom = self.options.custom.clone();
        let autoscalers = Autoscalers::new(api, &informers, events, usage, custom);
        tasks.spawn(autoscalers.autoscalers.clone().run(stop.clone()));
        spawn(autoscalers, tasks, stop);
        let events = recorder("persistentvolume-controller", tasks);
        spawn(Volumes::new(api, &informers, events), tasks, stop);
        let events = recorder("node-controller", tasks);
        let life = NodeLife::new(api, &informers, events, self.patience);
        tasks.spawn(life.leases.clone().run(stop.clone()));
        spawn(life, tasks, stop);
        let events = recorder("service-controller", tasks);
        let balancers = LoadBalancers::new(api, &informers, events);
        tasks.spawn(balancers.pools.clone().run(stop.clone()));
        spawn(balancers, tasks, stop);
        let ingress = IngressStatus::new(api, &informers);
        tasks.spawn(ingress.ingresses.clone().run(stop.clone()));
        tasks.spawn(ingress.classes.clone().run(stop.clone()));
        spawn(ingress, tasks, stop);
        let endpoints = Endpoints::new(api, &informers);
        tasks.spawn(endpoints.objects.clone().run(stop.clone()));
        spawn(endpoints, tasks, stop);
        spawn(PodCleanup::new(api, &informers), tasks, stop);

        tasks.spawn(event_ttl.events.clone().run(stop.clone()));
        spawn(event_ttl, tasks, stop);
        tasks.spawn(collection.quotas.clone().run(stop.clone()));
        tasks.spawn(collection.run(stop.clone()));
        tasks.spawn(accounts.accounts.clone().run(stop.clone()));
        spawn(accounts, tasks, stop);
        if !self.options.authority.is_empty() {
            let publisher = RootCa::new(api, &namespaces, &self.options.authority);
            tasks.spawn(publisher.maps.clone().run(stop.clone()));
            spawn(publisher, tasks, stop);
        }
        tasks.spawn(aggregation.roles.clone().run(stop.clone()));
        spawn(aggregation, tasks, stop);
        informers.start(tasks, stop);
        tasks.spawn(namespaces.run(stop.clone()));
    }
}

fn spawn<C: Controller>(controller: C, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
    tasks.spawn(runner::run(Arc::new(controller), stop.clone()));
}
