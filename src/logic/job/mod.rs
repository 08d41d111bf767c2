//! A Job's decisions: what counts, when it is over, which pods are made and taken away.
//!
//! ```text
//! pods ─► facts (pod.rs) ─► tracking.rs: who is counted, who may lose its finalizer
//!                              │ totals
//!                              ▼
//!                           verdict.rs: over, and why?   ── no ─► demand.rs: make, take
//!                              └─ yes ─► delete what runs, then the last condition
//! ```
//! Source: Kubernetes' `pkg/controller/job`. Why four files: each is a question of its
//! own that is asked with nothing but the answers to the ones before it.

pub mod demand;
pub mod pod;
pub mod tracking;
pub mod verdict;

/// The finalizer that keeps a job's pod until it is counted.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Label and annotation: the pod's completion index.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Annotation: failures of the index before this pod.
pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Annotation: failures of the index that the job's policy ignored.
pub const INDEX_IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

#[cfg(test)]
mod tests;
