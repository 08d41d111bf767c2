//! Events about pods and the node, written to the API beside the work.
//!
//! Why a queue: an event must never hold a pod up, and an API that is away must not
//! either. The queue is bounded; what does not fit is dropped with a trace.
//! The same event again raises the count of the first instead of making another.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::labels::PodIdentity;
use crate::base::limits::AGENT_EVENT_QUEUE;
use crate::client::api::SharedApi;
use crate::client::{PatchKind, ResourceRef};
use crate::sys::clock;

const EVENTS: ResourceRef = ResourceRef::of::<Event>(true);
const REMEMBERED_MAX: usize = 1_000;

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gravity {
    Normal,
    Warning,
}

#[derive(Clone, Debug)]
struct Note {
    pod: PodIdentity,
    container: Option<String>,
    gravity: Gravity,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Takes events from everywhere in the agent.
#[derive(Clone, Debug)]
pub(crate) struct EventSink {
    sender: mpsc::Sender<Note>,
}

impl EventSink {
    pub(crate) fn send(
        &self,
        pod: &PodIdentity,
        container: Option<&str>,
        gravity: Gravity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let note = Note {
            pod: pod.clone(),
            container: container.map(str::to_owned),
            gravity,
            reason,
            message: message.into(),
            at: clock::now(),
        };
        if let Err(error) = self.sender.try_send(note) {
            tracing::debug!(%error, reason, "an event was dropped");
        }
    }
}

/// Pod uid, container, reason and message.
type Sameness = (String, Option<String>, &'static str, String);

/// Writes what the sink took.
#[derive(Debug)]
pub(crate) struct EventWriter {
    api: SharedApi,
    node: String,
    receiver: mpsc::Receiver<Note>,
    /// What was written, by what makes two events the same: name and count.
    written: HashMap<Sameness, (String, u64)>,
}

pub(crate) fn channel(api: SharedApi, node: String) -> (EventSink, EventWriter) {
    let (sender, receiver) = mpsc::channel(AGENT_EVENT_QUEUE);
    (EventSink { sender }, EventWriter { api, node, receiver, written: HashMap::new() })
}

impl EventWriter {
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        loop {
            let note = tokio::select! {
                () = cancel.cancelled() => return,
                note = self.receiver.recv() => note,
            };
            let Some(note) = note else { return };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.write(note) => {}
            }
        }
    }

    async fn write(&mut self, note: Note) {
        let key = (note.pod.uid.clone(), note.container.clone(), note.reason, note.message.clone());
        if let Some((name, count)) = self.written.get_mut(&key) {
            let patch = json!({"count": *count + 1, "lastTimestamp": note.at});
            let namespace = Some(note.pod.namespace.as_str());
            let outcome =
                self.api.patch(&EVENTS, namespace, name, None, PatchKind::Merge, &patch).await;
            match outcome {
                Ok(_) => {
                    *count += 1;
                    return;
                }
                Err(error) if error.is_not_found() => {
                    self.written.remove(&key);
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot count an event");
                    return;
                }
            }
        }
        let (name, event) = self.event(&note);
        match self.api.create(&EVENTS, Some(&note.pod.namespace), &event).await {
            Ok(_) => {
                if self.written.len() >= REMEMBERED_MAX {
                    self.written.clear();
                }
                self.written.insert(key, (name, 1));
            }
            Err(error) => tracing::debug!(%error, reason = note.reason, "cannot write an event"),
        }
    }

    fn event(&self, note: &Note) -> (String, Value) {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{}.{}", note.pod.name, &unique[..16]);
        let at = Timestamp::from_second(note.at.as_second()).unwrap_or(note.at);
        let mut involved = json!({
            "kind": "Pod", "apiVersion": "v1", "namespace": note.pod.namespace,
            "name": note.pod.name, "uid": note.pod.uid,
        });
        if let Some(container) = &note.container {
            involved["fieldPath"] = json!(format!("spec.containers{{{container}}}"));
        }
        let gravity = match note.gravity {
            Gravity::Normal => "Normal",
            Gravity::Warning => "Warning",
        };
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": note.pod.namespace},
            "involvedObject": involved,
            "reason": note.reason, "message": note.message, "type": gravity, "count": 1,
            "firstTimestamp": at, "lastTimestamp": at,
            "source": {"component": "holdfast-agent", "host": self.node},
            "reportingComponent": "holdfast-agent", "reportingInstance": self.node,
        });
        (name, event)
    }
}
