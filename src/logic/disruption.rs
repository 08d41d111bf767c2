//! How many pods may be taken away on purpose, and whether this one may.
//!
//! ```text
//! controller  pods, scales ──► evaluate ──► status.disruptionsAllowed, disruptedPods
//! eviction    status ──► take ──► one less allowed, the pod noted ──► delete
//! ```
//! Why the note: between an eviction and the pod's end in the controller's eyes the pod still
//! looks healthy; who is noted does not count, for two minutes at most.
//! Invariants: what `take` grants between two evaluations is never more than the last one
//! allowed; a budget that was changed grants nothing before it was evaluated again.
//! Source: `pkg/controller/disruption/disruption.go`, `pkg/registry/core/pod/rest/eviction.go`.
//! Not here: reading pods and writing (`controllers/disruption.rs`, `objects/eviction.rs`).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// How long an evicted pod may take to show that it is going.
const NOTED_FOR: SignedDuration = SignedDuration::from_mins(2);
/// Evictions that may wait for the controller.
const NOTED_MAX: usize = 2_000;
/// The condition that says whether anything is allowed.
const ALLOWED: &str = "DisruptionAllowed";
/// When a client should ask again while the controller has not looked yet, seconds.
const UNSEEN_RETRY_SECONDS: u32 = 10;

/// A pod as far as budgets are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub name: String,
    pub ready: bool,
    pub terminating: bool,
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The whole status as it should be.
    pub status: Value,
    /// When to look again although nothing changed: a note runs out.
    pub again_in: Option<Duration>,
    /// Pods that were evicted and did not go.
    pub stayed: Vec<String>,
}

/// Why an eviction has to wait or cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Later perhaps: the reason, and when to ask again (seconds, 0 says nothing).
    NotNow { why: String, retry_after_seconds: u32 },
    /// The budget itself is broken.
    Broken(String),
}

/// A count or a percentage of `total`, rounded up.
pub fn amount(value: &Value, total: i64) -> Option<i64> {
    match value {
        Value::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            Some((percent.saturating_mul(total) + 99).div_euclid(100))
        }
        number => number.as_i64(),
    }
}

/// Whether the budget needs to know how many pods their owners want.
pub fn needs_scale(budget: &Value) -> bool {
    let spec = &budget["spec"];
    spec.get("maxUnavailable").is_some() || spec["minAvailable"].is_string()
}

/// Expected and desired healthy pods; `scale` is what the owners of `pods` pods want.
fn wanted(budget: &Value, pods: i64, scale: i64) -> (i64, i64) {
    let spec = &budget["spec"];
    if let Some(most) = spec.get("maxUnavailable") {
        (scale, (scale - amount(most, scale).unwrap_or(0)).max(0))
    } else if let Some(least) = spec.get("minAvailable") {
        let expected = if least.is_string() { scale } else { pods };
        (expected, amount(least, expected).unwrap_or(0))
    } else {
        (0, 0)
    }
}

/// The notes that still count: the pod is there, is not going, and has time left.
fn notes(budget: &Value, pods: &[Counted], now: Timestamp) -> (Map<String, Value>, Evaluated) {
    let mut kept = Map::new();
    let mut found = Evaluated { status: Value::Null, again_in: None, stayed: Vec::new() };
    let noted = budget.pointer("/status/disruptedPods").and_then(Value::as_object);
    for (name, since) in noted.into_iter().flatten() {
        let Some(pod) = pods.iter().find(|pod| pod.name == *name) else { continue };
        let since: Option<Timestamp> = since.as_str().and_then(|text| text.parse().ok());
        let Some(since) = since.filter(|_| !pod.terminating) else { continue };
        let left = since.saturating_add(NOTED_FOR).unwrap_or(now).duration_since(now);
        if left.is_negative() || left.is_zero() {
            found.stayed.push(name.clone());
            continue;
        }
        kept.insert(name.clone(), since.to_string().into());
        let left = left.unsigned_abs();
        found.again_in = Some(found.again_in.map_or(left, |sooner| sooner.min(left)));
    }
    (kept, found)
}

/// The budget's status from the pods that it selects; `scale` is what their owners want
/// together, or why that is not known.
pub fn evaluate(
    budget: &Value,
    pods: &[Counted],
    scale: Result<i64, String>,
    now: Timestamp,
) -> Evaluated {
    let (kept, mut found) = notes(budget, pods, now);
    let generation = budget.pointer("/metadata/generation").cloned().unwrap_or_else(|| 0.into());
    let scale = match scale {
        Ok(scale) => scale,
        Err(why) => {
            // Fail safe: what cannot be counted must not be disrupted.
            let mut status = budget.get("status").cloned().unwrap_or_else(|| json!({}));
            status["disruptionsAllowed"] = 0.into();
            status["observedGeneration"] = generation;
            set_condition(&mut status, budget, false, "SyncFailed", &why, now);
            found.status = status;
            return found;
        }
    };
    let healthy = |pod: &&Counted| pod.ready && !pod.terminating && !kept.contains_key(&pod.name);
    let current = pods.iter().filter(healthy).count() as i64;
    let (expected, desired) = wanted(budget, pods.len() as i64, scale);
    let allowed = if expected <= 0 { 0 } else { (current - desired).max(0) };
    let mut status = json!({
        "currentHealthy": current,
        "desiredHealthy": desired,
        "disruptionsAllowed": allowed,
        "expectedPods": expected,
        "observedGeneration": generation,
    });
    if let Some(conditions) = budget.pointer("/status/conditions") {
        status["conditions"] = conditions.clone();
    }
    if !kept.is_empty() {
        status["disruptedPods"] = Value::Object(kept);
    }
    let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
    set_condition(&mut status, budget, allowed > 0, reason, "", now);
    found.status = status;
    found
}

fn set_condition(
    status: &mut Value,
    budget: &Value,
    allowed: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let word = if allowed { "True" } else { "False" };
    let list = match status.get("conditions").and_then(Value::as_array) {
        Some(list) => list.clone(),
        None => Vec::new(),
    };
    let held = list.iter().find(|condition| condition["type"] == ALLOWED);
    let since = held.filter(|held| held["status"] == word).map(|held| &held["lastTransitionTime"]);
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let condition = json!({
        "type": ALLOWED,
        "status": word,
        "reason": reason,
        "message": message,
        "observedGeneration": budget.pointer("/metadata/generation").cloned()
            .unwrap_or_else(|| 0.into()),
        "lastTransitionTime": since.cloned().unwrap_or_else(|| now.to_string().into()),
    });
    let mut list: Vec<Value> =
        list.into_iter().filter(|condition| condition["type"] != ALLOWED).collect();
    list.push(condition);
    status["conditions"] = Value::Array(list);
}

/// Whether the budget has a say about the pod's eviction at all. A pod that is over, has
/// not begun or is going keeps nothing up.
pub fn is_exempt(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed" | "Pending")
        || pod.pointer("/metadata/deletionTimestamp").is_some()
}

/// Whether the pod's Ready condition is True.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Whether the budget lets a pod go that is not ready, without counting it.
pub fn lets_unhealthy_go(budget: &Value) -> bool {
    let of = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    match budget.pointer("/spec/unhealthyPodEvictionPolicy").and_then(Value::as_str) {
        Some("AlwaysAllow") => true,
        _ => of("desiredHealthy") > 0 && of("currentHealthy") >= of("desiredHealthy"),
    }
}

/// The budget's status after one more eviction.
pub fn take(budget: &Value, pod: &str, now: Timestamp) -> Result<Value, Denied> {
    let name = budget.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let of = |pointer: &str| budget.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    if of("/status/observedGeneration") < of("/metadata/generation") {
        return Err(Denied::NotNow {
            why: format!("The disruption budget {name} is still being processed by the server."),
            retry_after_seconds: UNSEEN_RETRY_SECONDS,
        });
    }
    let allowed = of("/status/disruptionsAllowed");
    if allowed < 0 {
        return Err(Denied::Broken("pod disruption budget is negative".into()));
    }
    let mut status = budget.get("status").cloned().unwrap_or_else(|| json!({}));
    let noted = status.get("disruptedPods").and_then(Value::as_object).map_or(0, Map::len);
    if noted > NOTED_MAX {
        let text = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Denied::Broken(text.into()));
    }
    if allowed == 0 {
        let conditions = status.get("conditions").and_then(Value::as_array).into_iter().flatten();
        let mut failed = conditions.filter(|one| one["type"] == ALLOWED);
        let why = match failed.find(|one| one["reason"] == "SyncFailed") {
            Some(failed) => format!(
                "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
                failed["message"].as_str().unwrap_or_default()
            ),
            None => format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                of("/status/desiredHealthy"),
                of("/status/currentHealthy")
            ),
        };
        return Err(Denied::NotNow { why, retry_after_seconds: 0 });
    }
    status["disruptionsAllowed"] = (allowed - 1).into();
    if allowed == 1 {
        set_condition(&mut status, budget, false, "InsufficientPods", "", now);
    }
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][pod] = now.to_string().into();
    Ok(status)
}

#[cfg(test)]
#[path = "disruption/tests.rs"]
mod tests;
