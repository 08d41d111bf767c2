//! Watch: the store's changes as changes of what a selector selects.
//!
//! Why transitions: an object whose labels change leaves one selection and enters
//! another; to the watcher of a selection that is a deletion and an addition.
//! Invariants: changes come in revision order, none twice and none left out; a bookmark
//! promises that everything up to its revision was delivered.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use serde_json::Value;

use super::decoded::{Decoded, Version};
use super::read::parse_version;
use super::{Address, ListRequest, Objects, key, refusal, stored};
use crate::logic::selector::{FieldSelector, LabelSelector, text_at};
use crate::model::kinds::Kind;
use crate::model::kv::{self, EventKind, Revision, WatchItem};
use crate::model::status::Status;
use crate::store::{Facet, Interest};

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    pub kind: &'static Kind,
    /// `None` watches all namespaces.
    pub namespace: Option<String>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// Start after this version; none or `0` begins with what exists.
    pub resource_version: Option<String>,
    /// Begin with what exists and say with a bookmark when that is done.
    pub send_initial_events: bool,
    pub bookmarks: bool,
}

impl WatchRequest {
    /// Watches what a list selects, from the list's resourceVersion on.
    pub fn of(list: ListRequest) -> Self {
        Self {
            kind: list.kind,
            namespace: list.namespace,
            labels: list.labels,
            fields: list.fields,
            resource_version: list.resource_version,
            send_initial_events: false,
            bookmarks: false,
        }
    }
}

/// One step of a watch.
#[derive(Clone, Debug)]
pub enum Change {
    Added(Arc<Version>),
    Modified(Arc<Version>),
    /// The last state, with the revision of the deletion.
    Deleted(Arc<Version>),
    /// Everything up to here was delivered; `initial_end` closes the initial events.
    Bookmark {
        revision: Revision,
        initial_end: bool,
    },
    /// The watch is over; `Expired` means list again.
    Error(Status),
}

#[derive(Debug)]
struct Selection {
    decoded: Arc<Decoded>,
    kind: &'static Kind,
    labels: LabelSelector,
    fields: FieldSelector,
    bookmarks: bool,
}

impl Selection {
    fn selects(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }

    fn changes(&self, item: WatchItem) -> Vec<Change> {
        match item {
            WatchItem::Events { revision, events } => events
                .iter()
                .filter_map(|event| match self.change(revision, event) {
                    Ok(change) => change,
                    Err(status) => Some(Change::Error(status)),
                })
                .collect(),
            WatchItem::Progress(revision) if self.bookmarks => {
                vec![Change::Bookmark { revision, initial_end: false }]
            }
            WatchItem::Progress(_) => Vec::new(),
            WatchItem::Compacted { compact_revision } => {
                let text = format!("too old resource version: compacted at {compact_revision}");
                vec![Change::Error(Status::expired(text))]
            }
        }
    }

    fn change(&self, revision: Revision, event: &kv::Event) -> Result<Option<Change>, Status> {
        let before = match &event.prev_kv {
            Some(before) => Some(self.decoded.object(self.kind, before)?),
            None => None,
        };
        // The previous state carries the revision of this event, as Kubernetes does it.
        let gone = |object: &Arc<Version>| {
            let mut object = Value::clone(object);
            stored::set_version(&mut object, revision);
            Change::Deleted(Arc::new(Version::new(object)))
        };
        if event.kind == EventKind::Delete {
            // Compaction has taken what was deleted, so nobody can say who should hear of it.
            if before.is_none() {
                let text = format!("too old resource version: compacted at {revision}");
                return Err(Status::expired(text));
            }
            return Ok(before.filter(|before| self.selects(before)).as_ref().map(gone));
        }
        let after = self.decoded.object(self.kind, &event.kv)?;
        let was_in = match &before {
            Some(before) => self.selects(before),
            // Created now, or its past is forgotten: then it must be taken for known.
            None => event.kv.version > 1,
        };
        Ok(match (was_in, self.selects(&after)) {
            (false, true) => Some(Change::Added(after)),
            (true, true) => Some(Change::Modified(after)),
            (true, false) => Some(gone(before.as_ref().unwrap_or(&after))),
            (false, false) => None,
        })
    }
}

/// The value of one field, which many watches of a kind ask for: a node's pods.
#[derive(Debug)]
struct FieldFacet {
    decoded: Arc<Decoded>,
    kind: &'static Kind,
    pointer: &'static str,
    name: String,
}

impl Facet for FieldFacet {
    fn name(&self) -> &str {
        &self.name
    }

    fn values(&self, event: &kv::Event) -> Option<Vec<String>> {
        let value = |kv: &kv::KeyValue| {
            let object = self.decoded.object(self.kind, kv).ok()?;
            Some(text_at(&object, self.pointer).into_owned())
        };
        let mut values = Vec::with_capacity(2);
        match (&event.prev_kv, event.kind) {
            (Some(before), _) => values.push(value(before)?),
            // What it was nobody knows any more.
            (None, EventKind::Delete) => return None,
            (None, EventKind::Put) if event.kv.version > 1 => return None,
            (None, EventKind::Put) => {}
        }
        if event.kind == EventKind::Put {
            values.push(value(&event.kv)?);
        }
        Some(values)
    }
}

impl Objects {
    /// Begins to follow the store: no more of it than the selector can select.
    async fn follow(
        &self,
        request: &WatchRequest,
        start: Revision,
    ) -> Result<tokio::sync::mpsc::Receiver<WatchItem>, Status> {
        let (kind, namespace) = (request.kind, request.namespace.as_deref());
        let mut follow = match request.fields.value_of("/metadata/name") {
            Some(name) if namespace.is_some() || !kind.namespaced => {
                let key = key::object(&Address::new(kind, namespace, name));
                kv::WatchRequest {
                    key: key.into(),
                    start_revision: start,
                    progress_notify: true,
                    ..kv::WatchRequest::default()
                }
            }
            _ => kv::WatchRequest::prefix(key::prefix(kind, namespace), start),
        };
        follow.prev_kv = true;
        // How a custom kind is read changes with its definition, so nobody reads it ahead.
        let asked = request.fields.first().filter(|_| kind.custom.is_none());
        let opened = match asked {
            Some((pointer, value)) if !follow.range_end.is_empty() => {
                let facet = FieldFacet {
                    decoded: self.decoded.clone(),
                    kind,
                    pointer,
                    name: format!("{}/{}{pointer}", kind.group, kind.version),
                };
                let interest = Interest { facet: Arc::new(facet), value: value.to_owned() };
                self.kv.watch_value(follow, interest).await
            }
            _ => self.kv.watch(follow).await,
        };
        opened.map_err(refusal::of)
    }

    /// Changes until the watcher drops the stream or the kind is no longer served; an `Error`
    /// is the last item.
    pub async fn watch(
        &self,
        request: &WatchRequest,
    ) -> Result<BoxStream<'static, Change>, Status> {
        let asked = parse_version(request.resource_version.as_deref())?;
        let mut first = Vec::new();
        let from_scratch = request.send_initial_events || asked.is_none_or(|version| version == 0);
        let start = if from_scratch {
            let list = ListRequest {
                labels: request.labels.clone(),
                fields: request.fields.clone(),
                resource_version: request.resource_version.clone(),
                ..ListRequest::all(request.kind, request.namespace.as_deref())
            };
            let listing = self.list(&list).await?;
            let items = listing.items.into_iter();
            first.extend(items.map(|object| Change::Added(Arc::new(Version::new(object)))));
            if request.send_initial_events && request.bookmarks {
                let revision = listing.revision;
                first.push(Change::Bookmark { revision, initial_end: true });
            }
            listing.revision + 1
        } else {
            asked.unwrap_or_default().saturating_add(1)
        };
        let receiver = self.follow(request, start).await?;
        let selection = Selection {
            decoded: self.decoded.clone(),
            kind: request.kind,
            labels: request.labels.clone(),
            fields: request.fields.clone(),
            bookmarks: request.bookmarks,
        };
        let state = (receiver, selection, VecDeque::from(first), false);
        let changes =
            stream::unfold(state, |(mut receiver, selection, mut queue, over)| async move {
                if over {
                    return None;
                }
                loop {
                    if let Some(change) = queue.pop_front() {
                        let over = matches!(change, Change::Error(_));
                        return Some((change, (receiver, selection, queue, over)));
                    }
                    let item = receiver.recv().await?;
                    queue.extend(selection.changes(item));
                }
            });
        Ok(if request.kind.custom.is_some() {
            changes.take_until(self.custom.clone().gone(request.kind)).boxed()
        } else {
            changes.boxed()
        })
    }
}
