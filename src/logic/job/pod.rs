//! What a job must know of one of its pods, and what its failure policy says about it.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{INDEX, INDEX_FAILURES, INDEX_IGNORED, TRACKING};
use crate::logic::rollout_ranking::is_ready;

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Not ended.
    Open,
    Succeeded,
    Failed,
}

/// What a rule of the failure policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Count,
    Ignore,
    FailIndex,
    FailJob,
}

/// The facts about one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPod {
    pub uid: String,
    pub end: End,
    /// Its deletion was asked for.
    pub terminating: bool,
    /// Its deletion was asked for and nothing but finalizers keeps it.
    pub gone: bool,
    pub ready: bool,
    /// It still has the finalizer: it is not counted yet.
    pub tracked: bool,
    /// Restarts of its containers together.
    pub restarts: i32,
    pub index: Option<u32>,
    /// Failures of its index before it, and those of them that were ignored.
    pub failures_before: u32,
    pub ignored_before: u32,
    pub ended_at: Option<Timestamp>,
    /// What the failure policy says about it; `Count` where no rule fits.
    pub action: Action,
    /// The rule's words, where it fails the job.
    pub message: String,
}

impl JobPod {
    /// Reads a pod by the rules of its job.
    pub fn read(pod: &Pod, spec: &JobSpec) -> Self {
        let metadata = &pod.metadata;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let end = match phase {
            Some("Succeeded") => End::Succeeded,
            Some("Failed") => End::Failed,
            _ => End::Open,
        };
        let terminating = metadata.deletion_timestamp.is_some();
        let grace = metadata.deletion_grace_period_seconds.unwrap_or(0);
        let number = |name: &str| {
            let held = metadata.annotations.as_ref().and_then(|held| held.get(name));
            held.and_then(|text| text.parse::<u32>().ok())
        };
        let judged = if end == End::Failed { judge(pod, spec) } else { None };
        let (action, message) = judged.unwrap_or((Action::Count, String::new()));
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            end,
            terminating,
            gone: terminating && grace <= 0,
            ready: is_ready(pod),
            tracked: metadata.finalizers.iter().flatten().any(|held| held == TRACKING),
            restarts: containers(pod).map(|status| status.restart_count).sum(),
            index: number(INDEX),
            failures_before: number(INDEX_FAILURES).unwrap_or(0),
            ignored_before: number(INDEX_IGNORED).unwrap_or(0),
            ended_at: ended_at(pod),
            action,
            message,
        }
    }

    /// It works, or will.
    pub fn is_active(&self) -> bool {
        self.end == End::Open && !self.terminating
    }

    /// It counts as a failure. A pod that is on its way out counts already, unless only
    /// pods that have ended are replaced.
    pub fn has_failed(&self, only_ended: bool) -> bool {
        match self.end {
            End::Failed => true,
            End::Succeeded => false,
            End::Open => self.terminating && (!only_ended || self.gone),
        }
    }
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().flatten().chain(main.into_iter().flatten())
}

/// When the last container ended; else when the pod was deleted or made.
fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let ends = containers(pod).filter_map(|status| {
        status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0)
    });
    let metadata = &pod.metadata;
    let fallback = metadata.deletion_timestamp.as_ref().or(metadata.creation_timestamp.as_ref());
    ends.max().or_else(|| fallback.map(|time| time.0))
}

/// The first rule that fits, and its words.
fn judge(pod: &Pod, spec: &JobSpec) -> Option<(Action, String)> {
    let policy = spec.pod_failure_policy.as_ref()?;
    let name = format!(
        "{}/{}",
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default()
    );
    policy.rules.iter().enumerate().find_map(|(at, rule)| {
        let action = match rule.action.as_str() {
            "Ignore" => Action::Ignore,
            "FailIndex" => Action::FailIndex,
            "FailJob" => Action::FailJob,
            _ => Action::Count,
        };
        let why = by_exit_code(pod, rule, &name).or_else(|| by_condition(pod, rule, &name))?;
        Some((action, format!("{why} matching {} rule at index {at}", rule.action)))
    })
}

fn by_exit_code(pod: &Pod, rule: &PodFailurePolicyRule, name: &str) -> Option<String> {
    let wanted = rule.on_exit_codes.as_ref()?;
    containers(pod).find_map(|status| {
        let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
        let named = wanted.container_name.as_ref().is_none_or(|name| *name == status.name);
        let listed = wanted.values.contains(&code);
        let fits = if wanted.operator == "NotIn" { !listed } else { listed };
        (named && code != 0 && fits).then(|| {
            format!("Container {} for pod {name} failed with exit code {code}", status.name)
        })
    })
}

fn by_condition(pod: &Pod, rule: &PodFailurePolicyRule, name: &str) -> Option<String> {
    let held = pod.status.as_ref()?.conditions.as_ref()?;
    let mut patterns = rule.on_pod_conditions.iter().flatten();
    let fits = patterns.find(|pattern| {
        let status = pattern.status.as_deref().unwrap_or("True");
        held.iter().any(|one| one.type_ == pattern.type_ && one.status == status)
    })?;
    Some(format!("Pod {name} has condition {}", fits.type_))
}
