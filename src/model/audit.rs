//! Records of the audit log, and their place in its chain.
//!
//! ```text
//! {"seq":7,"prev":"<hash of 6>","revision":812,"record":{…},"hash":"<SHA-256>"}
//! ```
//! `hash` is the SHA-256, hexadecimal, of the same JSON without its last member, compact
//! and with the members in this order. The first record's `prev` is 64 zeros.
//! Not here: making and checking the chain (`logic/audit_chain`), keeping it (`objects`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the first record follows.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Somebody who acted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Actor {
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// One write, done or refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Unique; also the record's name until it is chained.
    pub id: String,
    /// RFC 3339 in UTC, by the clock of the control node that answered.
    pub time: String,
    /// Who, or whose rights were used.
    pub actor: Actor,
    /// Who acted in the actor's place (`kubectl --as`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonator: Option<Actor>,
    /// Kubernetes' verb: `create`, `update`, `patch`, `delete`, `deletecollection`, `post`.
    pub verb: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Path and query; empty for a controller of the cluster itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Address and port of the client.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// HTTP's code of the answer.
    pub code: u16,
    /// Of a refusal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What admission noted, such as a breach of a Pod Security level.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A record in the chain. The record stays JSON as it was written: a field that a later
/// version adds must not change what an earlier one hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chained {
    pub seq: u64,
    /// Hash of the one before.
    pub prev: String,
    /// The store's revision at which the write and its record were committed together.
    pub revision: i64,
    pub record: Value,
    pub hash: String,
}

/// A place in the chain: the last record of something, by number and hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub seq: u64,
    pub hash: String,
}

impl Default for Link {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS.to_owned() }
    }
}

/// A page of the log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AuditPage {
    /// The store's revision that all pages of one reading are of.
    pub revision: i64,
    /// The last record that was dropped by retention: what is kept begins after it.
    pub anchor: Link,
    /// The newest record in the chain.
    pub head: Link,
    pub items: Vec<Chained>,
    /// Committed and not chained yet, oldest first; with the last page only.
    #[serde(default)]
    pub pending: Vec<Value>,
}
