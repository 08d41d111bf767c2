//! The kinds that definitions make, as this control node serves them.
//!
//! ```text
//! store's watch of definitions ─► apply ─► served kinds ─► API, controllers
//! a path that is not known ─► its definition, read linearizably ─► apply ─┘
//! ```
//! Why both: the watch keeps every control node current at no cost for requests; the read
//! closes the gap after a definition was established through another node, so that its
//! first object can be written through any.
//! Invariants: of one definition a newer revision is never replaced by an older; a kind is
//! kept once for each distinct set of names; a definition that cannot be read serves
//! nothing and says so in the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Address, Change, ListRequest, Objects, WatchRequest, key, refusal, str_at};
use crate::base::chain::chain;
use crate::logic::definition::holds;
use crate::model::kinds::custom::{self, Custom, Identity};
use crate::model::kinds::{self, KINDS, Kind};
use crate::model::kv::{RangeRequest, Revision};
use crate::model::status::Status;

/// Pause before definitions are listed again after the watch broke.
const LIST_AGAIN: Duration = Duration::from_millis(500);
/// How long a description of what is served waits for the newest definitions; without a
/// quorum the known ones are told.
const FRESHEN_DEADLINE: Duration = Duration::from_secs(1);

/// The kind of definitions.
pub(super) fn definition_kind() -> &'static Kind {
    kinds::by_path("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        .expect("definitions are in the table of kinds")
}

/// One definition as it is known.
#[derive(Debug)]
struct Known {
    revision: Revision,
    /// Served versions, the preferred first; none of a definition that is gone.
    served: Vec<&'static Kind>,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<Identity, &'static Kind>,
    known: BTreeMap<String, Known>,
}

impl State {
    /// The kind of an identity, which is kept once.
    fn keep(&mut self, identity: Identity, custom: Arc<Custom>) -> &'static Kind {
        if let Some(kind) = self.kept.get(&identity).copied() {
            return kind;
        }
        let kind = identity.keep(custom);
        self.kept.insert(identity, kind);
        kind
    }
}

/// The kinds of all definitions.
#[derive(Debug)]
pub struct CustomKinds {
    state: Mutex<State>,
    served: ArcSwap<Vec<&'static Kind>>,
    preferred: watch::Sender<Arc<Vec<&'static Kind>>>,
    /// Counts what was applied.
    steps: watch::Sender<u64>,
}

impl Default for CustomKinds {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            served: ArcSwap::default(),
            preferred: watch::Sender::new(Arc::default()),
            steps: watch::Sender::new(0),
        }
    }
}

impl CustomKinds {
    /// Those of the table, then those of definitions.
    pub fn all(&self) -> Vec<&'static Kind> {
        KINDS.iter().chain(self.served.load().iter().copied()).collect()
    }

    /// The kind served at a path.
    pub fn by_path(&self, group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
        let own = |kind: &&&'static Kind| {
            kind.group == group && kind.version == version && kind.plural == plural
        };
        kinds::by_path(group, version, plural)
            .or_else(|| self.served.load().iter().find(own).copied())
    }

    /// One version of every kind that a definition makes, as they come and go.
    pub fn preferred(&self) -> watch::Receiver<Arc<Vec<&'static Kind>>> {
        self.preferred.subscribe()
    }

    /// Waits until the kind is no longer served.
    pub(super) async fn gone(self: Arc<Self>, kind: &'static Kind) {
        let mut steps = self.steps();
        let served = |own: &CustomKinds| {
            let found = own.by_path(kind.group, kind.version, kind.plural);
            found.is_some_and(|found| std::ptr::eq(found, kind))
        };
        while served(&self) {
            if steps.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells of every definition that was made, changed or deleted.
    pub(super) fn steps(&self) -> watch::Receiver<u64> {
        self.steps.subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kind that a definition's objects are stored as, whether it is served or not.
    pub(super) fn stored(&self, definition: &Value) -> Result<Option<&'static Kind>, String> {
        let versions = custom::read(definition)?;
        let stored = versions.into_iter().find(|version| version.stored);
        let mut state = self.lock();
        Ok(stored.map(|version| state.keep(version.identity, version.custom)))
    }

    /// Takes a definition in as it is at a revision; `None` of one that is gone.
    fn apply(&self, name: &str, revision: Revision, definition: Option<&Value>) {
        // Held throughout, so that an older revision cannot overtake a newer one.
        let mut state = self.lock();
        if state.known.get(name).is_some_and(|known| known.revision >= revision) {
            return;
        }
        let mut served = Vec::new();
        let established = definition.filter(|own| holds(own, "Established"));
        match established.map(custom::read).transpose() {
            Ok(versions) => {
                for version in versions.into_iter().flatten().filter(|version| version.served) {
                    let kind = state.keep(version.identity, version.custom.clone());
                    if let Some(slot) = kind.custom {
                        slot.replace(version.custom);
                    }
                    served.push(kind);
                }
            }
            Err(error) => tracing::warn!(name, error, "a definition cannot be served"),
        }
        state.known.insert(name.to_owned(), Known { revision, served });
        self.publish(&state);
    }

    /// Takes all definitions of one revision in.
    fn apply_all(&self, definitions: &[Value], revision: Revision) {
        let name_of = |definition: &Value| str_at(definition, "/metadata/name").to_owned();
        for definition in definitions {
            let own = str_at(definition, "/metadata/resourceVersion").parse().unwrap_or_default();
            self.apply(&name_of(definition), own, Some(definition));
        }
        let there: Vec<String> = definitions.iter().map(name_of).collect();
        let gone: Vec<String> = {
            let state = self.lock();
            let missing = state.known.iter().filter(|(name, known)| {
                known.revision < revision && !known.served.is_empty() && !there.contains(name)
            });
            missing.map(|(name, _)| name.clone()).collect()
        };
        for name in gone {
            self.apply(&name, revision, None);
        }
    }

    fn publish(&self, state: &State) {
        let all: Vec<&'static Kind> =
            state.known.values().flat_map(|known| known.served.iter().copied()).collect();
        let first = state.known.values().filter_map(|known| known.served.first().copied());
        let preferred: Vec<&'static Kind> = first.collect();
        self.served.store(Arc::new(all));
        self.preferred.send_if_modified(|held| {
            let same = held.len() == preferred.len()
                && held.iter().zip(&preferred).all(|(one, other)| std::ptr::eq(*one, *other));
            if !same {
                *held = Arc::new(preferred);
            }
            !same
        });
        self.steps.send_modify(|steps| *steps += 1);
    }

    /// Names and revisions of the definitions that are known to be there.
    fn revisions(&self) -> BTreeMap<String, Revision> {
        let state = self.lock();
        state.known.iter().map(|(name, known)| (name.clone(), known.revision)).collect()
    }
}

impl Objects {
    /// The kinds that are served.
    pub fn kinds(&self) -> &CustomKinds {
        &self.custom
    }

    /// Follows all definitions until cancelled.
    pub async fn follow_definitions(&self, cancel: CancellationToken) {
        loop {
            let followed = tokio::select! {
                () = cancel.cancelled() => return,
                followed = self.follow_once() => followed,
            };
            if let Err(error) = followed {
                tracing::debug!(error = chain(&error), "cannot follow definitions now");
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(LIST_AGAIN) => {}
            }
        }
    }

    async fn follow_once(&self) -> Result<(), Status> {
        let list = ListRequest::all(definition_kind(), None);
        let listing = self.list(&list).await?;
        self.custom.apply_all(&listing.items, listing.revision);
        let from = Some(listing.revision.to_string());
        let request = WatchRequest::of(ListRequest { resource_version: from, ..list });
        let mut changes = self.watch(&request).await?;
        while let Some(change) = changes.next().await {
            let (definition, is_there) = match &change {
                Change::Added(definition) | Change::Modified(definition) => (&***definition, true),
                Change::Deleted(definition) => (&***definition, false),
                Change::Bookmark { .. } => continue,
                Change::Error(status) => return Err(status.clone()),
            };
            let name = str_at(definition, "/metadata/name");
            let revision = str_at(definition, "/metadata/resourceVersion").parse();
            let revision = revision.unwrap_or_default();
            self.custom.apply(name, revision, is_there.then_some(definition));
        }
        Ok(())
    }

    /// The kind at a path as it is now on the whole cluster: for one that this node does not
    /// know its definition is read.
    pub async fn find_kind(
        &self,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Option<&'static Kind> {
        if let Some(kind) = self.custom.by_path(group, version, plural) {
            return Some(kind);
        }
        if !group.contains('.') {
            return None;
        }
        let name = format!("{plural}.{group}");
        let found = self.fetch(&Address::new(definition_kind(), None, &name)).await.ok()??;
        self.custom.apply(&name, found.revision, Some(&found.object));
        self.custom.by_path(group, version, plural)
    }

    /// Takes in what other control nodes already serve, before what is served is described.
    pub async fn freshen_kinds(&self) {
        let fresh = tokio::time::timeout(FRESHEN_DEADLINE, self.freshen()).await;
        if let Ok(Err(error)) = fresh {
            tracing::debug!(error = chain(&error), "cannot read the newest definitions");
        }
    }

    async fn freshen(&self) -> Result<(), Status> {
        let prefix = key::prefix(definition_kind(), None);
        let request = RangeRequest { keys_only: true, ..RangeRequest::prefix(prefix.clone()) };
        let answer = self.kv.range(request).await.map_err(refusal::of)?;
        let known = self.custom.revisions();
        let is_known = answer.kvs.iter().all(|kv| {
            let name = String::from_utf8_lossy(&kv.key);
            let name = name.strip_prefix(&prefix).unwrap_or_default();
            known.get(name).is_some_and(|revision| *revision >= kv.mod_revision)
        });
        if !is_known {
            let listing = self.list(&ListRequest::all(definition_kind(), None)).await?;
            self.custom.apply_all(&listing.items, listing.revision);
        }
        Ok(())
    }
}
