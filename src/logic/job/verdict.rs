//! Whether a job is over, and in whose words.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobSpec, JobStatus};

use super::pod::{Action, JobPod};
use super::tracking::{Rules, Tally};
use crate::model::index_set::IndexSet;

/// Why a job is over: reason and message of its conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub success: bool,
    pub reason: String,
    pub message: String,
}

impl Outcome {
    fn failure(reason: &str, message: impl Into<String>) -> Option<Self> {
        Some(Self { success: false, reason: reason.to_owned(), message: message.into() })
    }

    fn success(reason: &str, message: impl Into<String>) -> Option<Self> {
        Some(Self { success: true, reason: reason.to_owned(), message: message.into() })
    }
}

/// The condition of that type, if it holds: reason and message.
fn condition(status: &JobStatus, kind: &str) -> Option<(String, String)> {
    let mut held = status.conditions.iter().flatten();
    let found = held.find(|one| one.type_ == kind && one.status == "True")?;
    Some((found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default()))
}

/// Whether the last condition stands.
pub fn is_finished(status: &JobStatus) -> bool {
    ["Complete", "Failed"].into_iter().any(|kind| condition(status, kind).is_some())
}

/// What an earlier look decided.
fn decided(status: &JobStatus) -> Option<Outcome> {
    for (kind, success) in [
        ("SuccessCriteriaMet", true),
        ("FailureTarget", false),
        ("Complete", true),
        ("Failed", false),
    ] {
        if let Some((reason, message)) = condition(status, kind) {
            return Some(Outcome { success, reason, message });
        }
    }
    None
}

/// Judges the job by its totals; `None` while it goes on.
pub fn judge(
    spec: &JobSpec,
    status: &JobStatus,
    tally: &Tally,
    pods: &[JobPod],
    now: Timestamp,
) -> Option<Outcome> {
    let rules = Rules::of(spec, false);
    decided(status)
        .or_else(|| by_policy(pods))
        .or_else(|| by_failures(spec, tally, pods))
        .or_else(|| {
            let left = deadline_left(spec, status, now)?;
            let text = "Job was active longer than specified deadline";
            (left <= 0).then(|| Outcome::failure("DeadlineExceeded", text))?
        })
        .or_else(|| by_indexes(spec, tally, &rules))
        .or_else(|| by_success_policy(spec, tally, &rules))
        .or_else(|| by_completions(spec, tally, pods))
}

/// Seconds until the job has been active for too long.
pub fn deadline_left(spec: &JobSpec, status: &JobStatus, now: Timestamp) -> Option<i64> {
    let started = status.start_time.as_ref()?.0;
    if spec.suspend == Some(true) {
        return None;
    }
    Some(spec.active_deadline_seconds? - (now.as_second() - started.as_second()))
}

fn by_policy(pods: &[JobPod]) -> Option<Outcome> {
    let fatal = pods.iter().find(|pod| pod.action == Action::FailJob)?;
    Outcome::failure("PodFailurePolicy", fatal.message.clone())
}

fn by_failures(spec: &JobSpec, tally: &Tally, pods: &[JobPod]) -> Option<Outcome> {
    let limit = spec.backoff_limit.unwrap_or(6);
    let policy = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    // Containers that are restarted in place fail as pods do.
    let restarts: i32 = pods.iter().filter(|pod| pod.is_active()).map(|pod| pod.restarts).sum();
    let restarted =
        policy == Some("OnFailure") && if limit == 0 { restarts > 0 } else { restarts >= limit };
    let text = "Job has reached the specified backoff limit";
    if tally.total_failed() > limit || restarted {
        return Outcome::failure("BackoffLimitExceeded", text);
    }
    None
}

fn by_indexes(spec: &JobSpec, tally: &Tally, rules: &Rules) -> Option<Outcome> {
    if !rules.indexed || rules.limit_per_index.is_none() {
        return None;
    }
    let failed = tally.failed_indexes.len();
    let most = spec.max_failed_indexes.and_then(|most| u32::try_from(most).ok());
    if most.is_some_and(|most| failed > most) {
        let text = "Job has exceeded the specified maximal number of failed indexes";
        return Outcome::failure("MaxFailedIndexesExceeded", text);
    }
    if failed > 0 && failed + tally.completed.len() >= rules.completions {
        return Outcome::failure("FailedIndexes", "Job has failed indexes");
    }
    None
}

fn by_success_policy(spec: &JobSpec, tally: &Tally, rules: &Rules) -> Option<Outcome> {
    let policy = spec.success_policy.as_ref()?;
    let met = policy.rules.iter().position(|rule| {
        let wanted = rule.succeeded_indexes.as_deref();
        let wanted = wanted.map(|text| IndexSet::of_status(Some(text), rules.completions));
        let indexes = 0..rules.completions;
        let (mut met, mut all) = (0, 0);
        for index in indexes {
            if wanted.as_ref().is_none_or(|wanted| wanted.contains(index)) {
                all += 1;
                met += i32::from(tally.completed.contains(index));
            }
        }
        met >= rule.succeeded_count.unwrap_or(all) && met > 0
    })?;
    Outcome::success("SuccessPolicy", format!("Matched rules at index {met}"))
}

fn by_completions(spec: &JobSpec, tally: &Tally, pods: &[JobPod]) -> Option<Outcome> {
    let active = pods.iter().any(JobPod::is_active);
    let done = tally.total_succeeded();
    let enough = match spec.completions {
        Some(wanted) => done >= wanted,
        // Without a number one success ends the work, and all that runs is waited for.
        None => done > 0,
    };
    if enough && !active && spec.suspend != Some(true) {
        let text = "Reached expected number of succeeded pods";
        return Outcome::success("CompletionsReached", text);
    }
    None
}
