//! A job's conditions and the events that go with them.
//!
//! Invariant: the last condition (Complete, Failed) comes after the one that decided
//! (SuccessCriteriaMet, FailureTarget), once no pod runs and all are counted.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::News;
use crate::client::events::Severity;
use crate::logic::job::verdict::Outcome;

fn holds<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|one| one.type_ == kind && one.status == "True")
}

fn set(status: &mut JobStatus, kind: &str, truth: bool, text: (&str, &str), now: &Time) {
    let truth = if truth { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let held = conditions.iter().position(|one| one.type_ == kind);
    if held.is_some_and(|at| conditions[at].status == truth) {
        return;
    }
    let fresh = JobCondition {
        type_: kind.to_owned(),
        status: truth.to_owned(),
        reason: Some(text.0.to_owned()),
        message: Some(text.1.to_owned()),
        last_probe_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    };
    match held {
        Some(at) => conditions[at] = fresh,
        None => conditions.push(fresh),
    }
}

/// Notes what was decided, and the end once everything is over.
pub(super) fn finish(status: &mut JobStatus, outcome: &Outcome, over: bool, now: &Time) {
    let text = (outcome.reason.as_str(), outcome.message.as_str());
    let (first, last) = if outcome.success {
        ("SuccessCriteriaMet", "Complete")
    } else {
        ("FailureTarget", "Failed")
    };
    if holds(status, last).is_some() {
        return;
    }
    set(status, first, true, text, now);
    if over {
        set(status, last, true, text, now);
        if outcome.success {
            status.completion_time = Some(now.clone());
        }
    }
}

/// Follows `spec.suspend`: a suspended job has no start, a resumed one starts anew.
pub(super) fn suspend(status: &mut JobStatus, suspended: bool, now: &Time) {
    let was = holds(status, "Suspended").is_some();
    if suspended && !was {
        set(status, "Suspended", true, ("JobSuspended", "Job suspended"), now);
        status.start_time = None;
    } else if !suspended && was {
        set(status, "Suspended", false, ("JobResumed", "Job resumed"), now);
        status.start_time = Some(now.clone());
    }
}

/// When the job came to its end.
pub(super) fn finished_at(status: &JobStatus) -> Option<Timestamp> {
    let end = holds(status, "Complete").or_else(|| holds(status, "Failed"))?;
    end.last_transition_time.as_ref().map(|time| time.0)
}

/// What changed between two states that people should hear of.
pub(super) fn news(before: &JobStatus, after: &JobStatus) -> Vec<News> {
    let mut news = Vec::new();
    let began = |kind: &str| holds(before, kind).is_none().then(|| holds(after, kind)).flatten();
    if began("Complete").is_some() {
        news.push((Severity::Normal, "Completed".to_owned(), "Job completed".to_owned()));
    }
    if let Some(failed) = began("Failed") {
        let reason = failed.reason.clone().unwrap_or_default();
        news.push((Severity::Warning, reason, failed.message.clone().unwrap_or_default()));
    }
    let (was, is) = (holds(before, "Suspended").is_some(), holds(after, "Suspended").is_some());
    if !was && is {
        news.push((Severity::Normal, "Suspended".to_owned(), "Job suspended".to_owned()));
    } else if was && !is {
        news.push((Severity::Normal, "Resumed".to_owned(), "Job resumed".to_owned()));
    }
    news
}
