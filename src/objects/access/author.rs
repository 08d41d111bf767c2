//! Who is behind a write, and the record of it that goes into the write's transaction.
//!
//! Why in the transaction: a second commit would slow every write down, and a record that
//! is written before or after can be there without the write, or the write without it.
//!
//! Invariants: a write that was acknowledged has exactly one record, committed at the
//! same revision; what nodes and controllers report many times a second of what they see
//! (status, events, leases) is no act of anybody and has none.
//! Not here: chaining the records (`audit_log`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::Identity;
use super::audit_log::pending_key;
use crate::model::audit::{Actor, Record};
use crate::model::kinds::{Kind, Subresource};
use crate::model::kv::{Op, TxnRequest};
use crate::model::status::Status;
use crate::objects::{Address, Objects, refusal};
use crate::sys::{clock, fresh};

/// Longest text of a client that a record keeps, characters.
const TEXT_MAX: usize = 1_024;
/// Longest path and query of a request to enter a pod, characters: no request has a longer
/// one, so that what was run there cannot be hidden behind other words.
const ENTRY_MAX: usize = 64 * 1024;
/// Subresources that lead into a pod.
const ENTRIES: [&str; 3] = ["exec", "attach", "portforward"];
/// Most groups of one identity that a record keeps.
const GROUPS_MAX: usize = 32;
/// Longest name of a user or a group that a record keeps, characters.
const NAME_MAX: usize = 256;
/// The user that controllers of the cluster itself act as.
const CONTROLLERS: &str = "system:holdfast:controllers";

/// Where a request came from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Path and query.
    pub uri: String,
    /// Address and port of the client.
    pub source: String,
    pub user_agent: String,
}

/// Who is behind a write.
#[derive(Debug)]
pub struct Author {
    pub identity: Identity,
    /// Who acts in the identity's place.
    pub impersonator: Option<Identity>,
    pub origin: Origin,
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    /// Known from the path, or later from the body.
    pub name: OnceLock<String>,
    /// Reports of the cluster's own parts are not recorded.
    reports: bool,
    recorded: AtomicBool,
    /// What the client should know, each once, in order.
    warnings: Mutex<Vec<String>>,
    /// What the record says besides.
    annotations: Mutex<BTreeMap<String, String>>,
}

fn name(text: &str) -> String {
    text.chars().take(NAME_MAX).collect()
}

fn actor(identity: &Identity) -> Actor {
    Actor {
        user: name(&identity.user),
        uid: name(&identity.uid),
        groups: identity.groups.iter().take(GROUPS_MAX).map(|group| name(group)).collect(),
    }
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// Whether a write says what its author sees and not what he wants.
fn is_report(identity: &Identity, resource: &str, subresource: &str) -> bool {
    let own = identity.node().is_some() || identity.user == CONTROLLERS;
    own && (subresource == "status" || ["events", "leases"].contains(&resource))
}

impl Author {
    /// Somebody who writes to a kind through the API.
    pub fn new(
        identity: Identity,
        impersonator: Option<Identity>,
        origin: Origin,
        verb: &str,
        kind: &Kind,
        subresource: Option<Subresource>,
    ) -> Self {
        let subresource = subresource.map(Subresource::name).unwrap_or_default();
        let about = (kind.group, kind.plural, subresource);
        Self::of(identity, impersonator, origin, verb, about)
    }

    fn of(
        identity: Identity,
        impersonator: Option<Identity>,
        origin: Origin,
        verb: &str,
        (group, resource, subresource): (&str, &str, &str),
    ) -> Self {
        let reports = impersonator.is_none() && is_report(&identity, resource, subresource);
        Self {
            identity,
            impersonator,
            origin,
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: String::new(),
            name: OnceLock::new(),
            reports,
            recorded: AtomicBool::new(false),
            warnings: Mutex::default(),
            annotations: Mutex::default(),
        }
    }

    /// Somebody who writes to a path that is no resource.
    pub fn of_url(
        identity: Identity,
        impersonator: Option<Identity>,
        origin: Origin,
        verb: &str,
    ) -> Self {
        Self::of(identity, impersonator, origin, verb, ("", "", ""))
    }

    /// A controller of the cluster itself.
    pub fn controller(verb: &str, kind: &Kind, subresource: Option<Subresource>) -> Arc<Self> {
        let identity = Identity::new(CONTROLLERS, &[]);
        Arc::new(Self::new(identity, None, Origin::default(), verb, kind, subresource))
    }

    /// In a namespace, and of a name where that is known.
    pub fn about(mut self, namespace: Option<&str>, name: Option<&str>) -> Self {
        self.namespace = namespace.unwrap_or_default().to_owned();
        if let Some(name) = name {
            self.name = OnceLock::from(name.to_owned());
        }
        self
    }

    /// Whether no request stands behind it.
    pub(in crate::objects) fn is_the_cluster(&self) -> bool {
        self.identity.user == CONTROLLERS && self.origin.uri.is_empty()
    }

    /// Tells the client something about a request that goes on.
    pub(in crate::objects) fn warn(&self, text: String) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        // A write that was overtaken is judged again.
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// What the client is to be told.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes something for the record.
    pub(in crate::objects) fn annotate(&self, key: &str, text: String) {
        let mut annotations = self.annotations.lock().unwrap_or_else(PoisonError::into_inner);
        annotations.insert(key.to_owned(), text);
    }

    /// The code that the answer to a successful change has.
    pub(in crate::objects) fn success_code(&self) -> u16 {
        if self.verb == "create" { 201 } else { 200 }
    }

    /// Whether the record is written, or none is wanted.
    pub fn is_recorded(&self) -> bool {
        self.reports || self.recorded.load(Ordering::Acquire)
    }

    /// Nothing is done that a record could be of.
    pub fn is_on_trial(&self) {
        self.recorded.store(true, Ordering::Release);
    }

    /// The transaction that has the record was committed.
    pub(in crate::objects) fn was_recorded(&self) {
        self.recorded.store(true, Ordering::Release);
    }

    fn record(&self, namespace: &str, name: &str, code: u16, reason: &str) -> Record {
        let enters = ENTRIES.contains(&self.subresource.as_str());
        let uri_max = if enters { ENTRY_MAX } else { TEXT_MAX };
        Record {
            id: fresh::uid(),
            time: clock::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            actor: actor(&self.identity),
            impersonator: self.impersonator.as_ref().map(actor),
            verb: self.verb.clone(),
            group: self.group.clone(),
            resource: self.resource.clone(),
            subresource: self.subresource.clone(),
            namespace: namespace.to_owned(),
            name: short(name),
            uri: self.origin.uri.chars().take(uri_max).collect(),
            source: self.origin.source.clone(),
            user_agent: short(&self.origin.user_agent),
            code,
            reason: reason.to_owned(),
            annotations: self.annotations.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// What goes into the transaction of a write that will be answered with `code`.
    pub(in crate::objects) fn op(&self, address: &Address, code: u16) -> Option<Op> {
        if self.reports {
            return None;
        }
        let record = self.record(&address.namespace, &address.name, code, "");
        Some(put(&record))
    }
}

fn put(record: &Record) -> Op {
    let bytes = serde_json::to_vec(record).expect("a record is always written as JSON");
    Op::put(Bytes::from(pending_key(&record.id)), bytes)
}

impl Objects {
    /// Records an act that had no transaction of its own: one that was refused, that
    /// changed nothing, or that made something that is not stored.
    pub async fn record_apart(
        &self,
        author: &Author,
        code: u16,
        reason: &str,
    ) -> Result<(), Status> {
        if author.is_recorded() {
            return Ok(());
        }
        let name = author.name.get().map(String::as_str).unwrap_or_default();
        let record = author.record(&author.namespace, name, code, reason);
        let request = TxnRequest { success: vec![put(&record)], ..TxnRequest::default() };
        self.kv.txn(request).await.map_err(refusal::of)?;
        author.was_recorded();
        Ok(())
    }
}
