//! Kubernetes-shaped objects over the replicated store.
//!
//! One generic path for all kinds: what differs between two kinds is looked up in
//! [`crate::model::kinds`]. Every change is one transaction guarded by the object's last
//! revision, so two writers never overwrite each other unseen.
//!
//! ```text
//! create  decode → default → validate → admit (namespace, limits, account, pod security,
//!         addresses, quotas) → txn
//! update  fetch → change → decode → default → validate → owners → txn, again if raced
//! apply   fetch → merge by owners → decode → default → validate → txn, again if raced
//! delete  finalizers or grace left? mark : remove
//! watch   store events → selector transitions → ADDED / MODIFIED / DELETED
//! ```
//!
//! Invariants: `resourceVersion` is the store revision of the object's last change and is
//! never stored; a write that changes nothing writes nothing; an object with finalizers
//! is never removed. Not here: paths, media types, Tables (`api/kube`), controllers.

pub mod access;
mod admission;
mod apply;
mod binding;
mod bootstrap;
mod create;
mod custom_kinds;
mod decoded;
pub mod definitions;
mod delete;
mod ephemeral;
mod eviction;
pub mod fields;
mod ingress_class;
mod key;
mod limits;
#[cfg(test)]
pub(crate) mod memory_kv;
mod node_reads;
mod node_restriction;
mod ownership;
mod pod_security;
mod priority;
mod quota;
mod read;
mod refusal;
mod scale;
mod sealed_kv;
mod service_account;
mod service_balancer;
mod service_ip;
mod service_ports;
mod stored;
mod update;
mod watch;

use std::sync::Arc;

use ipnet::Ipv4Net;
use serde_json::Value;

pub use apply::{Applied, ApplyRequest};
pub use custom_kinds::CustomKinds;
pub use decoded::Version;
pub use delete::{DeleteRequest, Deletion, Propagation};
pub use read::{ListRequest, Listing};
pub use sealed_kv::{SealedKv, Sweep};
pub use update::{Patch, PatchType};
pub use watch::{Change, WatchRequest};

use crate::model::kinds::{Kind, Subresource};
use crate::model::status::Status;
use crate::store::Kv;

/// What the object layer must know of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct ObjectsOptions {
    /// Services get their cluster addresses from here.
    pub service_range: Ipv4Net,
}

/// The object layer; shared by the API, controllers and agent of a control node.
#[derive(Debug)]
pub struct Objects {
    kv: Arc<dyn Kv>,
    options: ObjectsOptions,
    rights: access::RightsCache,
    turns: quota::Turns,
    decoded: Arc<decoded::Decoded>,
    custom: Arc<CustomKinds>,
}

/// Which object a call is about.
#[derive(Clone, Debug)]
pub struct Address {
    pub kind: &'static Kind,
    /// Empty for cluster-wide kinds.
    pub namespace: String,
    pub name: String,
}

impl Address {
    pub fn new(kind: &'static Kind, namespace: Option<&str>, name: &str) -> Self {
        let namespace = namespace.unwrap_or_default().to_owned();
        Self { kind, namespace, name: name.to_owned() }
    }

    fn not_found(&self) -> Status {
        Status::not_found(self.kind.plural, self.kind.group, &self.name)
    }

    fn conflict(&self, why: &str) -> Status {
        Status::conflict(self.kind.plural, self.kind.group, &self.name, why)
    }
}

/// How a write is done.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Everything but the write itself.
    pub dry_run: bool,
    /// Who the changed fields belong to (`fieldManager`).
    pub manager: String,
    /// Who is behind it: whose rights bound what he may grant, and whom the audit log
    /// names. `None` is nobody, as in the store's own tests.
    pub author: Option<Arc<access::Author>>,
}

/// Whom the fields belong to that controllers and agents write.
pub const SERVER_MANAGER: &str = "holdfast";

impl WriteOptions {
    /// For what the cluster itself writes.
    pub fn server(verb: &str, kind: &Kind) -> Self {
        Self::controller(verb, kind, None)
    }

    /// The same, to a part of an object.
    pub fn controller(verb: &str, kind: &Kind, subresource: Option<Subresource>) -> Self {
        let author = access::Author::controller(verb, kind, subresource);
        Self { dry_run: false, manager: SERVER_MANAGER.into(), author: Some(author) }
    }
}

impl Objects {
    pub fn new(kv: Arc<dyn Kv>, options: ObjectsOptions) -> Self {
        Self {
            kv,
            options,
            rights: access::RightsCache::default(),
            turns: quota::Turns::default(),
            decoded: Arc::default(),
            custom: Arc::default(),
        }
    }
}

/// A text in the object, empty if absent.
fn str_at<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod admission_tests;
#[cfg(test)]
mod definitions_tests;
#[cfg(test)]
mod service_tests;
#[cfg(test)]
mod tests;
