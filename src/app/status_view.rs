//! What `holdfast status` says of members, nodes and pods, and which of it is a problem.
//!
//! Why apart: these are pure, from what was read; gathering it is `status`.
//! Invariant: without a majority nobody is shown as leader, and a node whose member does
//! not answer is not shown as ready, whatever the old replica says.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use crate::base::ids::MemberId;
use crate::logic::conditions::condition;
use crate::logic::pod_attention::{self, Assessment, PodState};
use crate::model::cluster_status::{MemberView, NodeView, PodCounts, QuorumLossView};
use crate::model::node_config::Role;
use crate::store::{MemberInfo, StoreStatus};

/// Silence of a member towards the leader that is a problem, milliseconds.
pub(super) const SILENCE_MAX_MS: u64 = 3_000;
/// The reason of a node whose member does not answer while no majority does.
const DOES_NOT_ANSWER: &str = "DoesNotAnswer";
/// Entries behind the leader that are a problem.
const LAG_MAX_ENTRIES: u64 = 10_000;

pub(super) fn text_at<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn is_true(condition: Option<&Value>) -> bool {
    condition.is_some_and(|condition| condition["status"] == "True")
}

/// The newest sign of life of any node, from their Leases: so old is what the replica holds.
pub(super) fn newest_beat(leases: &[Value]) -> Option<Timestamp> {
    let beat = |lease: &Value| text_at(lease, "/spec/renewTime").parse().ok();
    leases.iter().filter_map(beat).max()
}

/// The first problem of all.
pub(super) fn no_quorum(quorum: bool, loss: Option<&QuorumLossView>) -> Option<String> {
    if quorum {
        return None;
    }
    let why = match loss {
        Some(loss) => format!(
            "No majority of the control nodes answers: {} of {} do ({}); {}.",
            loss.answering.len(),
            loss.answering.len() + loss.silent.len(),
            loss.answering.join(", "),
            loss.remedy
        ),
        None => "No leader is elected yet, though a majority answers.".to_owned(),
    };
    Some(format!("{why} Until then nothing can be changed; what is shown here may be old."))
}

pub(super) fn members(
    store: &StoreStatus,
    quorum: bool,
    answering: &BTreeSet<MemberId>,
    problems: &mut Vec<String>,
) -> Vec<MemberView> {
    // Only what a leader with a majority says tells who answers it.
    let told = quorum && store.members.iter().any(|member| member.silent_ms.is_some());
    let answers = |member: &MemberInfo| match member.silent_ms {
        Some(silent) if told => silent <= SILENCE_MAX_MS,
        None if told => false,
        _ => answering.contains(&member.member),
    };
    let view = |member: &MemberInfo| MemberView {
        id: member.member,
        name: member.name.clone(),
        address: member.address.clone(),
        voter: member.voter,
        leader: quorum && store.leader == Some(member.member),
        answers: answers(member),
        lag_entries: member.lag.filter(|_| quorum),
    };
    for member in store.members.iter().filter(|member| !answers(member)) {
        let name = &member.name;
        problems.push(match member.silent_ms.filter(|_| told) {
            Some(silent) => {
                format!("Member {name} of the store has not answered for {} s.", silent / 1_000)
            }
            None => format!("Member {name} of the store does not answer."),
        });
    }
    let views: Vec<MemberView> = store.members.iter().map(view).collect();
    for member in views.iter().filter(|member| member.lag_entries > Some(LAG_MAX_ENTRIES)) {
        let lag = member.lag_entries.unwrap_or_default();
        problems.push(format!("Member {} is {lag} entries behind the leader.", member.name));
    }
    views
}

fn node_view(node: &Value, pods: &[Value], loss: Option<&QuorumLossView>) -> NodeView {
    let name = text_at(node, "/metadata/name");
    let ready = condition(node, "Ready");
    let labels = &node["metadata"]["labels"];
    let has = |label: &str| labels.get(label).is_some();
    let mut roles = Vec::new();
    if has("node-role.kubernetes.io/control-plane") {
        roles.push(Role::Control);
    }
    if has("node-role.kubernetes.io/worker") {
        roles.push(Role::Worker);
    }
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
    let address = addresses
        .into_iter()
        .flatten()
        .find(|address| address["type"] == "InternalIP")
        .and_then(|address| address["address"].as_str());
    let silent = loss.is_some_and(|loss| loss.silent.iter().any(|silent| silent == name));
    let reason = ready.map(|ready| text_at(ready, "/reason").to_owned()).unwrap_or_default();
    NodeView {
        name: name.into(),
        center: labels["topology.kubernetes.io/zone"].as_str().unwrap_or_default().into(),
        roles,
        address: address.unwrap_or_default().into(),
        ready: !silent && is_true(ready),
        reason: if silent { DOES_NOT_ANSWER.into() } else { reason },
        pods: pods.iter().filter(|pod| text_at(pod, "/spec/nodeName") == name).count() as u32,
    }
}

pub(super) fn nodes(
    objects: &[Value],
    pods: &[Value],
    members: &[MemberView],
    loss: Option<&QuorumLossView>,
    problems: &mut Vec<String>,
) -> Vec<NodeView> {
    let views: Vec<NodeView> = objects.iter().map(|node| node_view(node, pods, loss)).collect();
    let without = |node: &&NodeView| {
        node.roles.contains(&Role::Control)
            && !members.iter().any(|member| member.name == node.name)
    };
    for node in views.iter().filter(without) {
        problems.push(format!("Control node {} carries no member of the store.", node.name));
    }
    // Those that do not answer are named as members already.
    let told = |node: &&NodeView| node.reason == DOES_NOT_ANSWER;
    for node in views.iter().filter(|node| !node.ready && !told(node)) {
        problems.push(format!("Node {} is not ready: {}.", node.name, node.reason));
    }
    views
}

/// Counts the pods, each once, and says which of them want attention.
pub(super) fn pods(
    pods: &[Value],
    nodes: &[NodeView],
    now: Timestamp,
    problems: &mut Vec<String>,
) -> PodCounts {
    let mut counts = PodCounts { total: pods.len() as u32, ..PodCounts::default() };
    let silent = |pod: &&Value| {
        let node = text_at(pod, "/spec/nodeName");
        nodes.iter().any(|known| known.name == node && known.reason == DOES_NOT_ANSWER)
    };
    let (silent, pods): (Vec<&Value>, Vec<&Value>) = pods.iter().partition(silent);
    counts.unknown = silent.len() as u32;
    let look = |pod: &Value| {
        let name =
            format!("{}/{}", text_at(pod, "/metadata/namespace"), text_at(pod, "/metadata/name"));
        (name, pod_attention::assess(pod, now))
    };
    let found: Vec<(String, Assessment)> = pods.into_iter().map(look).collect();
    problems.extend(pod_attention::sentences(&found));
    for (_, assessment) in &found {
        *match assessment.state {
            PodState::Ready => &mut counts.ready,
            PodState::Starting => &mut counts.starting,
            PodState::Pending => &mut counts.pending,
            PodState::ImagePullFailing => &mut counts.image_pull_failing,
            PodState::CrashLooping => &mut counts.crash_looping,
            PodState::NotReady => &mut counts.not_ready,
            PodState::Failed => &mut counts.failed,
            PodState::Succeeded => &mut counts.succeeded,
            PodState::Terminating => &mut counts.terminating,
        } += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_pod_is_counted_once_and_troubled_ones_are_told() {
        let pod = |name: &str, status: Value| {
            json!({"metadata": {"name": name, "namespace": "shop",
                "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"nodeName": "a1"}, "status": status})
        };
        let all = [
            pod("well", json!({"conditions": [{"type": "Ready", "status": "True"}]})),
            pod("done", json!({"phase": "Succeeded"})),
            pod("late", json!({"phase": "Running"})),
            pod(
                "crash",
                json!({"containerStatuses": [{"name": "app", "restartCount": 4,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            ),
        ];
        let mut problems = Vec::new();
        let counts = pods(&all, &[], "2026-01-01T01:00:00Z".parse().unwrap(), &mut problems);
        assert_eq!(counts.text(), "1 ready, 1 crash-looping, 1 not ready, 1 succeeded");
        assert_eq!(counts.total, 4);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn without_a_majority_a_silent_node_is_not_shown_as_ready() {
        let node = |name: &str| {
            json!({"metadata": {"name": name, "labels": {}}, "status": {"conditions": [
                {"type": "Ready", "status": "True"}]}})
        };
        let all = [node("a1"), node("b1")];
        let lease = |renewed: &str| json!({"spec": {"renewTime": renewed}});
        let leases = ["2026-01-01T00:00:04.000000Z", "2026-01-01T00:00:02.000000Z"].map(lease);
        assert_eq!(
            newest_beat(&leases).map(crate::sys::clock::to_seconds).unwrap(),
            "2026-01-01T00:00:04Z"
        );
        let loss = QuorumLossView {
            answering: vec!["a1".into()],
            silent: vec!["b1".into()],
            missing: 1,
            remedy: "start b1".into(),
        };
        let mut problems = Vec::new();
        let views = nodes(&all, &[], &[], Some(&loss), &mut problems);
        assert!(views[0].ready && !views[1].ready);
        assert!(problems.is_empty(), "it is named as a member: {problems:?}");
        let pods_there = [json!({"spec": {"nodeName": "b1"}, "status": {"conditions": [
            {"type": "Ready", "status": "True"}]}})];
        let now = "2026-01-01T00:00:05Z".parse().unwrap();
        let counts = pods(&pods_there, &views, now, &mut problems);
        assert_eq!(counts.text(), "1 on nodes that do not answer");
        let told = no_quorum(false, Some(&loss)).unwrap();
        assert!(told.contains("1 of 2 do (a1); start b1."), "{told}");
    }
}
