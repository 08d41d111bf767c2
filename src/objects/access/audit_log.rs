//! The audit log in the store: records as they were committed, then their chain.
//!
//! ```text
//! write + /holdfast/audit/pending/<id>     one transaction, on any control node
//!           │ the leader, half a second later, in the order of commit
//!           ▼
//! /holdfast/audit/log/<seq> + head         each with the hash of the one before
//!           │ beyond what is kept
//!           ▼
//! gone; /holdfast/audit/anchor             where the rest begins
//! ```
//! Why in two steps: a chain orders all writes of the cluster; if each write carried the
//! hash of the one before, they would have to wait for each other.
//!
//! Invariants: a record is pending or in the log, never both and never neither; the chain
//! has the order of the store's revisions; two who chain at once disturb each other
//! (every step is guarded by the head's revision) and change nothing.
//! Not here: the hash (`logic/audit_chain`), making records (`author`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::limits::{AUDIT_KEEP_RECORDS, AUDIT_PAGE_MAX, AUDIT_TRIM_RECORDS};
use crate::model::audit::{AuditPage, Chained, Link};
use crate::model::kv::{
    Compare, DeleteRangeRequest, KeyValue, Op, RangeRequest, Revision, TxnRequest, WatchItem,
    WatchRequest, prefix_end,
};
use crate::model::status::Status;
use crate::objects::{Objects, refusal};

const PENDING: &str = "/holdfast/audit/pending/";
const LOG: &str = "/holdfast/audit/log/";
const HEAD: &str = "/holdfast/audit/head";
const ANCHOR: &str = "/holdfast/audit/anchor";
/// Records of one transaction: two operations each, and the head, of at most 128.
const BATCH: usize = 60;
/// And no more bytes: well below what the store takes in one request.
const BATCH_BYTES: usize = 512 * 1024;
/// No record of ours is longer.
const RECORD_BYTES: usize = 128 * 1024;
/// How much is kept of what is none.
const UNREADABLE_BYTES: usize = 1_024;

/// Where a record stands until it is chained.
pub(super) fn pending_key(id: &str) -> String {
    format!("{PENDING}{id}")
}

fn log_key(seq: u64) -> String {
    format!("{LOG}{seq:020}")
}

/// Which part of the log to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditRead {
    /// Begin after this number.
    pub after: u64,
    /// At most so many records; 0 is as many as one page takes.
    pub limit: usize,
    /// The revision of an earlier page; 0 is now.
    pub revision: Revision,
}

fn json<T: DeserializeOwned>(kv: &KeyValue) -> Result<T, Status> {
    let key = || String::from_utf8_lossy(&kv.key).into_owned();
    serde_json::from_slice(&kv.value)
        .map_err(|error| Status::internal(format!("{} cannot be read: {error}", key())))
}

fn put(key: impl Into<Bytes>, value: &impl serde::Serialize) -> Op {
    Op::put(key, serde_json::to_vec(value).expect("records are always written as JSON"))
}

/// What a pending key holds. What is no record was written by somebody else, and must
/// neither be lost nor hold up the rest.
fn record_of(kv: &KeyValue) -> Value {
    let fits = kv.value.len() <= RECORD_BYTES;
    let read = fits.then(|| serde_json::from_slice(&kv.value).ok()).flatten();
    read.unwrap_or_else(|| {
        let start = &kv.value[..kv.value.len().min(UNREADABLE_BYTES)];
        serde_json::json!({"unreadable": STANDARD.encode(start)})
    })
}

/// Cuts what is pending into transactions.
fn batches(mut pending: &[KeyValue]) -> Vec<&[KeyValue]> {
    let mut found = Vec::new();
    while !pending.is_empty() {
        let mut bytes = 0;
        let fits = pending.iter().take(BATCH).take_while(|kv| {
            bytes += kv.value.len();
            bytes <= BATCH_BYTES
        });
        let (batch, rest) = pending.split_at(fits.count().max(1));
        found.push(batch);
        pending = rest;
    }
    found
}

impl Objects {
    async fn link(
        &self,
        key: &'static str,
        revision: Revision,
    ) -> Result<(Link, Revision), Status> {
        let request = RangeRequest { revision, ..RangeRequest::key(key) };
        let answer = self.kv.range(request).await.map_err(refusal::of)?;
        match answer.kvs.first() {
            Some(kv) => Ok((json(kv)?, kv.mod_revision)),
            None => Ok((Link::default(), 0)),
        }
    }

    async fn pending(&self, revision: Revision) -> Result<Vec<KeyValue>, Status> {
        let request = RangeRequest { revision, ..RangeRequest::prefix(PENDING) };
        let mut found = self.kv.range(request).await.map_err(refusal::of)?.kvs;
        found.sort_by_key(|kv| kv.mod_revision);
        Ok(found)
    }

    /// Chains what is pending; answers how many records that were. Run by the leader.
    pub async fn chain_audit(&self) -> Result<usize, Status> {
        let (mut head, mut guard) = self.link(HEAD, 0).await?;
        let pending = self.pending(0).await?;
        for batch in batches(&pending) {
            let mut success = Vec::with_capacity(2 * BATCH + 1);
            for kv in batch {
                let next = Chained::after(&head, kv.mod_revision, record_of(kv));
                head = next.link();
                success.push(put(log_key(next.seq), &next));
                success.push(Op::delete(kv.key.clone()));
            }
            success.push(put(HEAD, &head));
            let compare = vec![Compare::mod_revision(HEAD, guard)];
            let request = TxnRequest { compare, success, failure: Vec::new() };
            let answer = self.kv.txn(request).await.map_err(refusal::of)?;
            if !answer.succeeded {
                return Err(Status::timeout("another node chains the audit log"));
            }
            guard = answer.revision;
        }
        self.trim_audit(&head, AUDIT_KEEP_RECORDS, AUDIT_TRIM_RECORDS).await?;
        Ok(pending.len())
    }

    /// Drops the oldest records beyond `keep`, once there are `slack` too many, and notes
    /// where the rest begins.
    pub(super) async fn trim_audit(
        &self,
        head: &Link,
        keep: u64,
        slack: u64,
    ) -> Result<(), Status> {
        let (anchor, guard) = self.link(ANCHOR, 0).await?;
        if head.seq.saturating_sub(anchor.seq) < keep + slack {
            return Ok(());
        }
        let last = head.seq - keep;
        let answer = self.kv.range(RangeRequest::key(log_key(last))).await.map_err(refusal::of)?;
        let Some(kv) = answer.kvs.first() else {
            return Err(Status::internal(format!("record {last} of the audit log is missing")));
        };
        let anchored = json::<Chained>(kv)?.link();
        let gone = DeleteRangeRequest {
            key: log_key(anchor.seq + 1).into(),
            range_end: log_key(last + 1).into(),
            prev_kv: false,
        };
        let request = TxnRequest {
            compare: vec![Compare::mod_revision(ANCHOR, guard)],
            success: vec![Op::DeleteRange(gone), put(ANCHOR, &anchored)],
            failure: Vec::new(),
        };
        self.kv.txn(request).await.map(drop).map_err(refusal::of)
    }

    /// Returns when something is pending that was not there at the start.
    pub async fn audit_waits(&self) -> Result<(), Status> {
        let bottom = RangeRequest { count_only: true, ..RangeRequest::prefix(PENDING) };
        let now = self.kv.range(bottom).await.map_err(refusal::of)?;
        if now.count > 0 {
            return Ok(());
        }
        let watch =
            WatchRequest { no_delete: true, ..WatchRequest::prefix(PENDING, now.revision + 1) };
        let mut changes = self.kv.watch(watch).await.map_err(refusal::of)?;
        while let Some(item) = changes.recv().await {
            if !matches!(item, WatchItem::Progress(_)) {
                break;
            }
        }
        Ok(())
    }

    /// A page of the log. All pages of one reading are of one revision.
    pub async fn audit_page(&self, read: &AuditRead) -> Result<AuditPage, Status> {
        let limit = if read.limit == 0 { AUDIT_PAGE_MAX } else { read.limit.min(AUDIT_PAGE_MAX) };
        let range = RangeRequest {
            key: log_key(read.after + 1).into(),
            range_end: prefix_end(LOG.as_bytes()),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            revision: read.revision,
            ..RangeRequest::default()
        };
        let answer = self.kv.range(range).await.map_err(refusal::of)?;
        let revision = if read.revision == 0 { answer.revision } else { read.revision };
        let (anchor, _) = self.link(ANCHOR, revision).await?;
        let (head, _) = self.link(HEAD, revision).await?;
        let items: Vec<Chained> = answer.kvs.iter().map(json).collect::<Result<_, _>>()?;
        let mut pending = Vec::new();
        if !answer.more {
            for kv in self.pending(revision).await? {
                pending.push(record_of(&kv));
            }
        }
        Ok(AuditPage { revision, anchor, head, items, pending })
    }
}
