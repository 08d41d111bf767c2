//! What a Deployment says about itself: counts, Available, Progressing.
//!
//! Invariant: conditions change their transition time only when their status changes;
//! nothing is written when nothing changed.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Deployments, Rollout, available, wanted};
use crate::controllers::runner::{ControllerError, Requeue};
use crate::controllers::status::write;
use crate::logic::rollout::Progress;
use crate::sys::clock;

const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

impl Deployments {
    /// Writes the status; answers when to look again and whether the rollout is over.
    pub(super) async fn write_status(
        &self,
        rollout: &Rollout,
    ) -> Result<(Requeue, bool), ControllerError> {
        let now = Time(clock::now());
        let (status, again) = compose(rollout, &now);
        let complete = progress(&status).is_complete(rollout.desired);
        let changed = Deployment { status: Some(status), ..(*rollout.deployment).clone() };
        write(&self.deployments, &rollout.deployment, &changed).await?;
        Ok((again, complete))
    }
}

fn progress(status: &DeploymentStatus) -> Progress {
    Progress {
        replicas: status.replicas.unwrap_or(0),
        updated: status.updated_replicas.unwrap_or(0),
        available: status.available_replicas.unwrap_or(0),
    }
}

fn compose(rollout: &Rollout, now: &Time) -> (DeploymentStatus, Requeue) {
    let held = rollout.deployment.status.clone().unwrap_or_default();
    let sum = |count: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| -> i32 {
        rollout.all().filter_map(|set| set.status.as_ref()).map(count).sum()
    };
    let total: i32 = rollout.all().map(|set| wanted(set)).sum();
    let ready_now: i32 = rollout.all().map(|set| available(set)).sum();
    let updated = rollout.new.as_ref().and_then(|new| new.status.as_ref());
    let mut status = DeploymentStatus {
        observed_generation: rollout.deployment.metadata.generation,
        replicas: Some(sum(|status| status.replicas)),
        updated_replicas: Some(updated.map_or(0, |status| status.replicas)),
        ready_replicas: Some(sum(|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: Some(ready_now),
        unavailable_replicas: Some((total - ready_now).max(0)),
        ..held.clone()
    };
    let enough = ready_now >= rollout.desired - rollout.bounds.max_unavailable;
    let (reason, message) = if enough {
        ("MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set_condition(&mut status, "Available", truth(enough), reason, message, now);
    let again = compose_progress(rollout, &held, &mut status, now);
    compose_failure(rollout, &mut status, now);
    (status, again)
}

fn compose_progress(
    rollout: &Rollout,
    held: &DeploymentStatus,
    status: &mut DeploymentStatus,
    now: &Time,
) -> Requeue {
    let deadline = i64::from(rollout.spec.progress_deadline_seconds.unwrap_or(600));
    if deadline == i64::from(i32::MAX) {
        return Requeue::Done;
    }
    let name = match rollout.new.as_ref().and_then(|new| new.metadata.name.as_deref()) {
        Some(new) => format!("ReplicaSet \"{new}\""),
        None => format!("Deployment \"{}\"", rollout.key().name),
    };
    let before = find(held, "Progressing").cloned();
    let (after, earlier) = (progress(status), progress(held));
    let reason_before = before.as_ref().and_then(|held| held.reason.clone()).unwrap_or_default();
    if rollout.spec.paused == Some(true) {
        let text = "Deployment is paused";
        set_condition(status, "Progressing", "Unknown", "DeploymentPaused", text, now);
        return Requeue::Done;
    }
    if after.is_complete(rollout.desired) {
        let text = format!("{name} has successfully progressed.");
        set_condition(status, "Progressing", "True", COMPLETE, &text, now);
        return Requeue::Done;
    }
    // A finished rollout that merely lost a pod is not rolling out again.
    if reason_before == COMPLETE && after.replicas == after.updated {
        return Requeue::Done;
    }
    let begun =
        before.is_none() || reason_before == "DeploymentPaused" || reason_before == COMPLETE;
    if begun || after.advanced_since(earlier) {
        let text = format!("{name} is progressing.");
        set_condition(status, "Progressing", "True", "ReplicaSetUpdated", &text, now);
        touch(status, "Progressing", now);
        return Requeue::After(seconds(deadline));
    }
    if reason_before == TIMED_OUT {
        return Requeue::Done;
    }
    let since = before.and_then(|held| held.last_update_time).map_or(now.0, |time| time.0);
    let left = deadline - (now.0.as_second() - since.as_second());
    if left > 0 {
        return Requeue::After(seconds(left));
    }
    let text = format!("{name} has timed out progressing.");
    set_condition(status, "Progressing", "False", TIMED_OUT, &text, now);
    Requeue::Done
}

/// Repeats a ReplicaSet's failure, the new one's first.
fn compose_failure(rollout: &Rollout, status: &mut DeploymentStatus, now: &Time) {
    let sets = rollout.new.iter().chain(rollout.old.iter().rev());
    let mut conditions = sets.filter_map(|set| set.status.as_ref()?.conditions.as_ref()).flatten();
    match conditions.find(|condition| condition.type_.as_deref() == Some("ReplicaFailure")) {
        Some(failure) => {
            let reason = failure.reason.clone().unwrap_or_default();
            let message = failure.message.clone().unwrap_or_default();
            let truth = failure.status.clone().unwrap_or_default();
            set_condition(status, "ReplicaFailure", &truth, &reason, &message, now);
        }
        None => {
            if let Some(conditions) = &mut status.conditions {
                conditions.retain(|condition| condition.type_.as_deref() != Some("ReplicaFailure"));
            }
        }
    }
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(count.max(1).unsigned_abs())
}

fn truth(holds: bool) -> &'static str {
    if holds { "True" } else { "False" }
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_.as_deref() == Some(kind))
}

/// Says that a condition still moves although its text stays.
fn touch(status: &mut DeploymentStatus, kind: &str, now: &Time) {
    for condition in status.conditions.iter_mut().flatten() {
        if condition.type_.as_deref() == Some(kind) {
            condition.last_update_time = Some(now.clone());
        }
    }
}

fn set_condition(
    status: &mut DeploymentStatus,
    kind: &str,
    truth: &str,
    reason: &str,
    message: &str,
    now: &Time,
) {
    let held = find(status, kind).cloned();
    if held.as_ref().is_some_and(|held| {
        held.status.as_deref() == Some(truth)
            && held.reason.as_deref() == Some(reason)
            && held.message.as_deref() == Some(message)
    }) {
        return;
    }
    let kept = held.filter(|held| held.status.as_deref() == Some(truth));
    let transition = kept.and_then(|held| held.last_transition_time);
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_.as_deref() != Some(kind));
    conditions.push(DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(truth.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(transition.unwrap_or_else(|| now.clone())),
    });
}
