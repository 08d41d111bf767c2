//! How each pod is doing, and whether an operator should look at it.
//!
//! Why one state each: the counts of a summary must add up to the number of pods. Why
//! dues: a pod that has just been made is not ready either, and that is no problem.
//! Invariant: every pod is in exactly one state.
//! Not here: how it is told (`app/status`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::conditions::condition;

/// How long a pod may wait for a node, seconds.
const PENDING_DUE_SECONDS: i64 = 15;
/// How long a pod on a node may take to become ready, seconds.
const READY_DUE_SECONDS: i64 = 60;
/// How long a pod may go on after its grace has ended, seconds.
const END_DUE_SECONDS: i64 = 30;
/// Restarts after which a pod that is not ready counts as crashing, back-off or not.
const CRASHES: i64 = 3;

/// What a pod is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PodState {
    Ready,
    /// Not ready, and not overdue.
    Starting,
    /// It has no node.
    Pending,
    ImagePullFailing,
    CrashLooping,
    /// Overdue for another reason.
    NotReady,
    Failed,
    Succeeded,
    Terminating,
}

/// A pod's state, and what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    pub state: PodState,
    /// Why somebody should look; `None` if nobody need.
    pub problem: Option<String>,
}

fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Seconds since the time in the field; `None` if there is none.
fn age(value: &Value, now: Timestamp) -> Option<i64> {
    let at: Timestamp = value.as_str()?.parse().ok()?;
    Some(now.as_second() - at.as_second())
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .filter_map(|field| pod["status"][field].as_array())
        .flatten()
}

/// What one container hinders the pod by.
fn hindrance(container: &Value) -> Option<(PodState, String)> {
    let name = text(container, "/name");
    let reason = text(container, "/state/waiting/reason");
    let message = text(container, "/state/waiting/message");
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => {
            let image = text(container, "/image");
            let told = if message.is_empty() { reason } else { message };
            let named = told.contains(image) && !image.is_empty();
            let told = if named { told.to_owned() } else { format!("image {image}: {told}") };
            Some((PodState::ImagePullFailing, told))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some((PodState::NotReady, format!("container {name}: {reason}: {message}")))
        }
        _ => crash(container, name, reason == "CrashLoopBackOff"),
    }
}

fn crash(container: &Value, name: &str, backs_off: bool) -> Option<(PodState, String)> {
    let restarts = container["restartCount"].as_i64().unwrap_or_default();
    let again = restarts >= CRASHES && container["ready"] != true;
    if !backs_off && !again {
        return None;
    }
    let last = ["/lastState/terminated", "/state/terminated"];
    let code = last.iter().find_map(|at| container.pointer(at)?.get("exitCode")?.as_i64());
    let code = code.map(|code| format!(", last exit code {code}")).unwrap_or_default();
    let times = if restarts == 1 { "restart" } else { "restarts" };
    Some((PodState::CrashLooping, format!("container {name}, {restarts} {times}{code}")))
}

/// Looks at one pod.
pub fn assess(pod: &Value, now: Timestamp) -> Assessment {
    let fine = |state| Assessment { state, problem: None };
    let told = |state, problem: String| Assessment { state, problem: Some(problem) };
    let metadata = &pod["metadata"];
    match text(pod, "/status/phase") {
        "Succeeded" => return fine(PodState::Succeeded),
        // Whoever wants it done has made another one by now, or nobody wants it.
        "Failed" => return fine(PodState::Failed),
        _ => {}
    }
    if let Some(over) = age(&metadata["deletionTimestamp"], now) {
        return if over > END_DUE_SECONDS {
            told(PodState::Terminating, format!("should have ended {over} s ago"))
        } else {
            fine(PodState::Terminating)
        };
    }
    let ready = condition(pod, "Ready");
    if ready.is_some_and(|ready| ready["status"] == "True") {
        return fine(PodState::Ready);
    }
    let created = age(&metadata["creationTimestamp"], now).unwrap_or_default();
    if text(pod, "/spec/nodeName").is_empty() {
        let scheduled = condition(pod, "PodScheduled");
        let refused = scheduled.filter(|found| found["status"] == "False");
        return match refused.map(|found| text(found, "/message")) {
            Some(why) if !why.is_empty() => {
                told(PodState::Pending, why.trim_end_matches('.').into())
            }
            _ if created > PENDING_DUE_SECONDS => {
                told(PodState::Pending, format!("no scheduler has looked at it for {created} s"))
            }
            _ => fine(PodState::Pending),
        };
    }
    if let Some((state, why)) = containers(pod).find_map(hindrance) {
        return told(state, why);
    }
    let since = ready.and_then(|ready| age(&ready["lastTransitionTime"], now)).unwrap_or(created);
    if since <= READY_DUE_SECONDS {
        return fine(PodState::Starting);
    }
    let why = ready.map(|ready| text(ready, "/message")).filter(|why| !why.is_empty());
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    told(PodState::NotReady, format!("not ready for {since} s{why}"))
}

/// How many are named in one sentence.
const NAMED: usize = 4;

/// The first of them, and how many more there are.
pub(super) fn named(all: &[String]) -> String {
    let left = all.len().saturating_sub(NAMED);
    let more = if left == 0 { String::new() } else { format!(" and {left} more") };
    format!("{}{more}", all[..all.len() - left].join("; "))
}

/// One sentence for each kind of problem, with the number of pods and the first of them.
pub fn sentences(found: &[(String, Assessment)]) -> Vec<String> {
    let mut by_state: BTreeMap<PodState, Vec<String>> = BTreeMap::new();
    for (name, assessment) in found {
        if let Some(problem) = &assessment.problem {
            by_state.entry(assessment.state).or_default().push(format!("{name} ({problem})"));
        }
    }
    let sentence = |(state, pods): (PodState, Vec<String>)| {
        let one = pods.len() == 1;
        let what = match state {
            PodState::Pending if one => "waits for a node",
            PodState::Pending => "wait for a node",
            PodState::ImagePullFailing if one => "cannot pull its image",
            PodState::ImagePullFailing => "cannot pull their images",
            PodState::CrashLooping if one => "is crash-looping",
            PodState::CrashLooping => "are crash-looping",
            PodState::Terminating if one => "does not end",
            PodState::Terminating => "do not end",
            _ if one => "is not ready",
            _ => "are not ready",
        };
        let noun = if one { "pod" } else { "pods" };
        format!("{} {noun} {what}: {}.", pods.len(), named(&pods))
    };
    by_state.into_iter().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-01-01T01:00:00Z";

    fn pod(node: &str, status: Value) -> Value {
        json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": node}, "status": status})
    }

    fn look(pod: &Value) -> Assessment {
        assess(pod, NOW.parse().unwrap())
    }

    #[test]
    fn each_trouble_has_its_state_and_says_why() {
        let crashing = json!({"containerStatuses": [{"name": "app", "restartCount": 7,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 3}}}]});
        let pulling = json!({"containerStatuses": [{"name": "app", "image": "shop:9",
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]});
        let refused = json!({"conditions": [{"type": "PodScheduled", "status": "False",
            "message": "0/3 nodes are available: 3 Insufficient memory."}]});
        let unready = json!({"conditions": [{"type": "Ready", "status": "False",
            "lastTransitionTime": "2026-01-01T00:58:00Z", "message": "probe failed"}]});
        for (node, status, state, says) in [
            ("a1", crashing, PodState::CrashLooping, "7 restarts, last exit code 3"),
            ("a1", pulling, PodState::ImagePullFailing, "image shop:9: not found"),
            ("", refused, PodState::Pending, "3 Insufficient memory"),
            ("a1", unready, PodState::NotReady, "not ready for 120 s: probe failed"),
        ] {
            let found = look(&pod(node, status));
            assert_eq!(found.state, state);
            assert!(found.problem.as_deref().unwrap_or_default().contains(says), "{found:?}");
        }
    }

    #[test]
    fn what_is_well_ended_or_young_is_no_problem() {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let young = json!({"conditions": [{"type": "Ready", "status": "False",
            "lastTransitionTime": "2026-01-01T00:59:30Z"}]});
        for (status, state) in [
            (ready, PodState::Ready),
            (young, PodState::Starting),
            (json!({"phase": "Succeeded"}), PodState::Succeeded),
            (json!({"phase": "Failed"}), PodState::Failed),
        ] {
            assert_eq!(look(&pod("a1", status)), Assessment { state, problem: None });
        }
    }

    #[test]
    fn sentences_count_all_and_name_the_first() {
        let found: Vec<_> = (0..6)
            .map(|at| {
                let problem = Some("3 restarts".to_owned());
                (format!("shop/p{at}"), Assessment { state: PodState::CrashLooping, problem })
            })
            .collect();
        let told = sentences(&found);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("6 pods are crash-looping: shop/p0 (3 restarts); "));
        assert!(told[0].ends_with("shop/p3 (3 restarts) and 2 more."), "{told:?}");
        assert_eq!(sentences(&found[..1]), ["1 pod is crash-looping: shop/p0 (3 restarts)."]);
    }
}
