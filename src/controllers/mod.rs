//! Controllers: each drives the cluster from what is stored towards what is asked.
//!
//! All are level-triggered: they look at what is, never at what happened, so that first
//! start, restart and failover are one code path. They run on the leader only; whoever
//! starts [`ControllerSet::run`] cancels it when leadership is lost.

mod autoscaler;
mod autoscaler_metrics;
mod autoscaler_status;
mod collection;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod event_ttl;
mod expectations;
mod gc;
mod graph;
mod informers;
mod ingress_status;
mod job;
mod load_balancer;
mod namespace;
mod node_life;
mod ownership;
mod pod_cleanup;
mod pod_control;
mod pod_volumes;
mod preemption;
mod quota;
mod replicaset;
mod revisions;
mod role_aggregation;
mod root_ca;
mod runner;
mod scheduler;
mod service_account;
mod set;
mod set_claims;
mod statefulset;
mod status;
mod taint_eviction;
mod volumes;

#[cfg(test)]
mod tests;

pub use collection::CustomKindsWatch;
pub use runner::ControllerError;
pub use set::{ControllerOptions, ControllerSet};
