//! Tells changes of what answers wait for as Events about the other site's nodes, where
//! people look with kubectl; the leader's work.
//!
//! Best effort, and after a change of leader perhaps twice. Not here: the record that counts
//! is the journal in the store (`store/commitment`).

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio_util::sync::CancellationToken;

use super::dr::local;
use crate::base::ids::MemberId;
use crate::client::SharedApi;
use crate::client::events::{EventRecorder, Severity};
use crate::model::cluster_record::{NODES_PREFIX, NodeRecord};
use crate::model::commit_mode::{CommitMode, Footing};
use crate::model::kv::RangeRequest;
use crate::store::{Commitment, CommitmentNote, Store};
use crate::sys::clock;

/// A leader tells what was changed so long before it looked first: the one before may have
/// been lost with the remote center.
const RECENT_MS: u64 = 60_000;

/// Until this member leads no longer.
pub(super) async fn tell(store: Arc<Store>, api: SharedApi, host: String, term: CancellationToken) {
    let (recorder, writer) = EventRecorder::new(api, "holdfast-dr", host);
    let follow = async {
        let mut changes = store.commitment_changes();
        let mut told = 0;
        loop {
            changes.borrow_and_update();
            let now = store.commitment();
            let news = news(&now, told, clock::now_ms());
            if !news.is_empty() {
                let request = RangeRequest::prefix(NODES_PREFIX.as_bytes());
                let nodes: Vec<NodeRecord> = local(&store, request).await;
                record(&recorder, &now, &news, &nodes);
            }
            told = now.changed;
            tokio::select! {
                () = term.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    };
    tokio::join!(writer.run(term.clone()), follow);
}

fn news(now: &Commitment, told: u64, now_ms: u64) -> Vec<&CommitmentNote> {
    let is_new = |note: &&CommitmentNote| note.index > told && note.at_ms + RECENT_MS > now_ms;
    now.journal.iter().filter(is_new).collect()
}

fn record(
    recorder: &EventRecorder,
    now: &Commitment,
    news: &[&CommitmentNote],
    nodes: &[NodeRecord],
) {
    let remote = now
        .remote
        .iter()
        .filter_map(|member| nodes.iter().find(|node| node.member_id == Some(MemberId(*member))));
    for node in remote {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(node.name.clone()),
            // As the kubelet has it in its own events about a node.
            uid: Some(node.name.clone()),
            ..ObjectReference::default()
        };
        for note in news {
            let (severity, reason, message) = words(note);
            recorder.record_about(about.clone(), severity, reason, message);
        }
    }
}

fn words(note: &CommitmentNote) -> (Severity, &'static str, String) {
    let (severity, reason, what) = match (note.mode, note.footing) {
        (CommitMode::Majority, _) => {
            (Severity::Normal, "CommitModeChanged", "answers do not wait for this site")
        }
        (CommitMode::RemoteSync, Footing::FallenBack) => (
            Severity::Warning,
            "RemoteFallenBack",
            "answers do not wait for this site, and what it lacks would be lost with the other one",
        ),
        (CommitMode::RemoteSync | CommitMode::MaxProtection, _) => {
            (Severity::Normal, "RemoteSynchronous", "answers wait for two nodes of this site")
        }
    };
    let why = if note.reason.is_empty() { "no reason given" } else { &note.reason };
    let message = format!("Commit mode {}: {what} (by {}: {why})", note.mode.name(), note.by);
    (severity, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(index: u64, at_ms: u64, mode: CommitMode, footing: Footing) -> CommitmentNote {
        let (by, reason) = ("the leader".into(), String::new());
        CommitmentNote { index, at_ms, mode, footing, remote: 3, by, reason }
    }

    #[test]
    fn what_is_new_is_told_once_and_what_is_old_not_at_all() {
        let fallen = note(7, 100_000, CommitMode::RemoteSync, Footing::FallenBack);
        let back = note(9, 130_000, CommitMode::RemoteSync, Footing::Synchronous);
        let now = Commitment { journal: vec![fallen, back], changed: 9, ..Commitment::default() };
        let indexes = |told, now_ms| {
            news(&now, told, now_ms).iter().map(|note| note.index).collect::<Vec<_>>()
        };
        assert_eq!(indexes(0, 131_000), [7, 9]);
        assert_eq!(indexes(7, 131_000), [9]);
        assert_eq!(indexes(9, 131_000), [0_u64; 0]);
        assert_eq!(indexes(0, 100_000 + RECENT_MS), [9], "of an earlier leader's time");
    }

    #[test]
    fn only_a_city_that_answers_alone_is_a_warning() {
        let fallen = words(&note(1, 1, CommitMode::RemoteSync, Footing::FallenBack));
        assert_eq!((fallen.0, fallen.1), (Severity::Warning, "RemoteFallenBack"));
        assert!(fallen.2.ends_with("(by the leader: no reason given)"), "{}", fallen.2);
        for (mode, footing, reason) in [
            (CommitMode::RemoteSync, Footing::Synchronous, "RemoteSynchronous"),
            (CommitMode::MaxProtection, Footing::Synchronous, "RemoteSynchronous"),
            (CommitMode::Majority, Footing::FallenBack, "CommitModeChanged"),
        ] {
            let said = words(&note(1, 1, mode, footing));
            assert_eq!((said.0, said.1), (Severity::Normal, reason));
        }
    }
}
