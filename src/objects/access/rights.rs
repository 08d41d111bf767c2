//! Roles and bindings in memory, as the store's watch brings them.
//!
//! Why: each request asks, and a read of the store for each would double its cost. The
//! watch is read when somebody asks, so that there is no task to start, to stop or to lose.
//!
//! Invariants: what is answered holds at a revision that this replica had; a right that
//! was changed through this very server is seen by the next request here; a watch that
//! ended, was overtaken or cannot be read is begun anew from what is stored.
//! Not here: the decision (`logic/rbac`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::super::refusal;
use crate::logic::rbac::{Binding, Rights};
use crate::model::kinds::Kind;
use crate::model::kv::{self, EventKind, KeyValue, RangeRequest, Revision, WatchItem};
use crate::model::rbac::{GROUP, RoleRef, Rule, Subject};
use crate::model::status::Status;
use crate::store::Kv;

const PREFIX: &str = "/registry/rbac.authorization.k8s.io/";
/// How long a request waits for the watch to bring what was written here before.
const OWN_WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// A role or a binding as far as rights are concerned.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stored {
    rules: Vec<Rule>,
    subjects: Vec<Subject>,
    role_ref: RoleRef,
}

struct Live {
    rights: Arc<Rights>,
    /// Everything up to here is in `rights`.
    seen: Revision,
    changes: Receiver<WatchItem>,
}

/// See the module.
#[derive(Default)]
pub(in crate::objects) struct RightsCache {
    live: Mutex<Option<Live>>,
    /// The last revision at which this server wrote a role or a binding.
    written: AtomicI64,
}

impl std::fmt::Debug for RightsCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RightsCache").field("written", &self.written).finish_non_exhaustive()
    }
}

fn take_in(rights: &mut Rights, kv: &KeyValue, there: bool) -> Result<(), Status> {
    let key = std::str::from_utf8(&kv.key).unwrap_or_default();
    let Some((plural, rest)) = key.strip_prefix(PREFIX).and_then(|path| path.split_once('/'))
    else {
        return Ok(());
    };
    let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
    let stored = if there {
        let read: Result<Stored, _> = serde_json::from_slice(&kv.value);
        let bad = |error| Status::internal(format!("{key} cannot be read: {error}"));
        Some(read.map_err(bad)?)
    } else {
        None
    };
    match plural {
        "clusterroles" | "roles" => {
            rights.set_role(namespace, name, stored.map(|stored| stored.rules));
        }
        "clusterrolebindings" | "rolebindings" => {
            let binding =
                stored.map(|Stored { subjects, role_ref: role, .. }| Binding { subjects, role });
            rights.set_binding(namespace, name, binding);
        }
        _ => {}
    }
    Ok(())
}

impl Live {
    async fn begin(kv: &dyn Kv) -> Result<Self, Status> {
        // The local replica is enough, and is there without a majority too; the watch
        // goes on from exactly what was read.
        let request = RangeRequest { serializable: true, ..RangeRequest::prefix(PREFIX) };
        let stored = kv.range(request).await.map_err(refusal::of)?;
        let mut rights = Rights::default();
        for item in &stored.kvs {
            take_in(&mut rights, item, true)?;
        }
        // Nobody reads for hours; progress alone would fill the channel.
        let watch = kv::WatchRequest {
            progress_notify: false,
            ..kv::WatchRequest::prefix(PREFIX, stored.revision + 1)
        };
        let changes = kv.watch(watch).await.map_err(refusal::of)?;
        Ok(Self { rights: Arc::new(rights), seen: stored.revision, changes })
    }

    /// Takes in one item; `false` means that the watch is of no more use.
    fn apply(&mut self, item: &WatchItem) -> bool {
        match item {
            WatchItem::Events { revision, events } => {
                let rights = Arc::make_mut(&mut self.rights);
                for event in events {
                    let there = event.kind == EventKind::Put;
                    if let Err(status) = take_in(rights, &event.kv, there) {
                        tracing::error!(%status, "a right cannot be read");
                        return false;
                    }
                }
                self.seen = *revision;
                true
            }
            WatchItem::Progress(revision) => {
                self.seen = self.seen.max(*revision);
                true
            }
            WatchItem::Compacted { .. } => false,
        }
    }

    /// Takes in what has come, and waits until `written` has.
    async fn catch_up(&mut self, written: Revision) -> bool {
        loop {
            match self.changes.try_recv() {
                Ok(item) if self.apply(&item) => {}
                Ok(_) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => break,
            }
        }
        while self.seen < written {
            match tokio::time::timeout(OWN_WRITE_PATIENCE, self.changes.recv()).await {
                Ok(Some(item)) if self.apply(&item) => {}
                // Silent for so long: what is stored says it.
                _ => return false,
            }
        }
        true
    }
}

impl RightsCache {
    /// Notes that a role or a binding was written through this server.
    pub(in crate::objects) fn note_write(&self, kind: &Kind, revision: Revision) {
        if kind.group == GROUP {
            self.written.fetch_max(revision, Ordering::AcqRel);
        }
    }

    /// The rights as of now.
    pub(super) async fn current(&self, kv: &dyn Kv) -> Result<Arc<Rights>, Status> {
        let mut live = self.live.lock().await;
        let written = self.written.load(Ordering::Acquire);
        if let Some(own) = live.as_mut()
            && own.catch_up(written).await
        {
            return Ok(own.rights.clone());
        }
        *live = None;
        let mut fresh = Live::begin(kv).await?;
        // A replica may be behind what the leader did for us; if it stays so, it says what
        // it has.
        let _best_known = fresh.catch_up(written).await;
        Ok(live.insert(fresh).rights.clone())
    }
}
