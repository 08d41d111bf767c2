//! The store as the object layer uses it: values of sealed kinds, and the keys that sign
//! tokens, are encrypted on the way in and decrypted on the way out.
//!
//! ```text
//!  objects ──plain──► SealedKv ──envelopes──► Store ► log, state, snapshots, etcd's protocol
//! ```
//! Why here and not in the store: everything below, other members, snapshots and clients of
//! etcd's protocol, sees envelopes only, and none of it must know that there are any.
//! Invariants: a value of a sealed kind never passes downwards in plain text; a value opens
//! under the key it was written to and no other; one that does not open is handed up as it
//! is, so that one lost key does not hide the others (`stored` says what is wrong).
//! Not here: the bytes (`pki/envelope`), which key is used (`install/secret_keys`).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::access::SIGNING_KEYS;
use super::key;
use crate::model::kinds::KINDS;
use crate::model::kv::{
    Compare, KeyValue, Op, OpResponse, RangeRequest, RangeResponse, Revision, TxnRequest,
    TxnResponse, WatchItem, WatchRequest, prefix_end,
};
use crate::model::secret_keys::KeyId;
use crate::pki::{SecretKeys, is_sealed, key_of};
use crate::store::{Interest, Kv, StoreError};

/// Items of a watch that wait for their reader.
const ITEMS_AHEAD: usize = 16;
/// Values that a sweep reads in one go.
const SWEEP_PAGE: i64 = 100;

/// A store whose secrets are encrypted.
#[derive(Debug)]
pub struct SealedKv {
    vault: Arc<Vault>,
    inner: Arc<dyn Kv>,
    feeders: TaskTracker,
}

#[derive(Debug)]
struct Vault {
    keys: Arc<SecretKeys>,
    /// Of all sealed kinds, and the keys that sign tokens.
    prefixes: Vec<Bytes>,
}

/// What stands in the store, by how it is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    pub by_key: BTreeMap<KeyId, u64>,
    pub plain: u64,
    /// Values that were encrypted anew.
    pub rewritten: u64,
    /// Values that do not open; they were left alone.
    pub unreadable: u64,
}

impl Vault {
    fn holds(&self, key: &[u8]) -> bool {
        self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Whether a range may contain sealed values.
    fn overlaps(&self, start: &[u8], end: &[u8]) -> bool {
        match end {
            [] => self.holds(start),
            end => self.prefixes.iter().any(|prefix| {
                let past = prefix_end(prefix);
                (end == [0] || end > &prefix[..]) && start < &past[..]
            }),
        }
    }

    fn seal(&self, key: &[u8], value: &[u8]) -> Result<Bytes, StoreError> {
        self.keys.seal(key, value).map(Bytes::from).ok_or_else(|| StoreError::NoKey {
            reason: "the control nodes have not agreed on a key; see `holdfast secrets status`"
                .into(),
        })
    }

    fn open(&self, kv: &mut KeyValue) {
        if !is_sealed(&kv.value) || !self.holds(&kv.key) {
            return;
        }
        match self.keys.open(&kv.key, &kv.value) {
            Ok(plain) => kv.value = plain.into(),
            Err(error) => {
                tracing::warn!(key = %String::from_utf8_lossy(&kv.key), %error, "a value does not open");
            }
        }
    }

    fn seal_ops(&self, ops: &mut [Op]) -> Result<(), StoreError> {
        for op in ops {
            match op {
                Op::Put(put) if self.holds(&put.key) => {
                    put.value = self.seal(&put.key, &put.value)?;
                }
                Op::Txn(nested) => {
                    self.seal_ops(&mut nested.success)?;
                    self.seal_ops(&mut nested.failure)?;
                }
                Op::Put(_) | Op::Range(_) | Op::DeleteRange(_) => {}
            }
        }
        Ok(())
    }

    fn open_answer(&self, answer: &mut TxnResponse) {
        for response in &mut answer.responses {
            match response {
                OpResponse::Range(range) => range.kvs.iter_mut().for_each(|kv| self.open(kv)),
                OpResponse::Put { prev_kv, .. } => prev_kv.iter_mut().for_each(|kv| self.open(kv)),
                OpResponse::DeleteRange { prev_kvs, .. } => {
                    prev_kvs.iter_mut().for_each(|kv| self.open(kv));
                }
                OpResponse::Txn(nested) => self.open_answer(nested),
            }
        }
    }

    fn open_item(&self, item: &mut WatchItem) {
        let WatchItem::Events { events, .. } = item else { return };
        for event in events {
            self.open(&mut event.kv);
            if let Some(before) = &mut event.prev_kv {
                self.open(before);
            }
        }
    }
}

impl SealedKv {
    /// Over `inner`, with the keys of this node.
    pub fn new(inner: Arc<dyn Kv>, keys: Arc<SecretKeys>) -> Self {
        let sealed = KINDS.iter().filter(|kind| kind.sealed);
        let kinds = sealed.map(|kind| key::prefix(kind, None).into());
        let prefixes = kinds.chain([Bytes::from_static(SIGNING_KEYS.as_bytes())]).collect();
        let vault = Arc::new(Vault { keys, prefixes });
        Self { vault, inner, feeders: TaskTracker::new() }
    }

    /// Counts what stands in the store.
    pub async fn look(&self) -> Result<Sweep, StoreError> {
        self.walk(None).await
    }

    /// Encrypts with `id`, which must be in use, whatever is not yet.
    pub async fn sweep(&self, id: KeyId) -> Result<Sweep, StoreError> {
        self.walk(Some(id)).await
    }

    async fn walk(&self, to: Option<KeyId>) -> Result<Sweep, StoreError> {
        let mut found = Sweep::default();
        for prefix in &self.vault.prefixes {
            let mut range =
                RangeRequest { limit: SWEEP_PAGE, ..RangeRequest::prefix(prefix.clone()) };
            loop {
                let page = self.inner.range(range.clone()).await?;
                for kv in &page.kvs {
                    self.visit(kv, to, &mut found).await?;
                }
                match page.kvs.last() {
                    Some(last) if page.more => range.key = [&last.key[..], b"\0"].concat().into(),
                    _ => break,
                }
            }
        }
        Ok(found)
    }

    async fn visit(
        &self,
        kv: &KeyValue,
        to: Option<KeyId>,
        found: &mut Sweep,
    ) -> Result<(), StoreError> {
        let own = key_of(&kv.value);
        let Some(to) = to.filter(|to| own != Some(*to)) else {
            match own {
                Some(id) => *found.by_key.entry(id).or_default() += 1,
                None => found.plain += 1,
            }
            return Ok(());
        };
        let plain = match own {
            None => kv.value.to_vec(),
            Some(id) => match self.vault.keys.open(&kv.key, &kv.value) {
                Ok(plain) => plain,
                Err(_) => {
                    found.unreadable += 1;
                    *found.by_key.entry(id).or_default() += 1;
                    return Ok(());
                }
            },
        };
        let request = TxnRequest {
            compare: vec![Compare::mod_revision(kv.key.clone(), kv.mod_revision)],
            success: vec![Op::put(kv.key.clone(), self.vault.seal(&kv.key, &plain)?)],
            failure: Vec::new(),
        };
        // One that lost to another writer was encrypted by that one.
        if self.inner.txn(request).await?.succeeded {
            found.rewritten += 1;
        }
        *found.by_key.entry(to).or_default() += 1;
        Ok(())
    }
}

#[async_trait]
impl Kv for SealedKv {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let mut answer = self.inner.range(request).await?;
        answer.kvs.iter_mut().for_each(|kv| self.vault.open(kv));
        Ok(answer)
    }

    async fn txn(&self, mut request: TxnRequest) -> Result<TxnResponse, StoreError> {
        self.vault.seal_ops(&mut request.success)?;
        self.vault.seal_ops(&mut request.failure)?;
        let mut answer = self.inner.txn(request).await?;
        self.vault.open_answer(&mut answer);
        Ok(answer)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<mpsc::Receiver<WatchItem>, StoreError> {
        let overlaps = self.vault.overlaps(&request.key, &request.range_end);
        let mut items = self.inner.watch(request).await?;
        if !overlaps {
            return Ok(items);
        }
        let (sender, receiver) = mpsc::channel(ITEMS_AHEAD);
        let vault = self.vault.clone();
        // It ends with its reader, or with the store's side.
        self.feeders.spawn(async move {
            loop {
                let item = tokio::select! {
                    biased;
                    () = sender.closed() => return,
                    item = items.recv() => item,
                };
                let Some(mut item) = item else { return };
                vault.open_item(&mut item);
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    async fn watch_value(
        &self,
        request: WatchRequest,
        interest: Interest,
    ) -> Result<mpsc::Receiver<WatchItem>, StoreError> {
        // Nobody below sees the values of what is encrypted.
        if self.vault.overlaps(&request.key, &request.range_end) {
            return self.watch(request).await;
        }
        self.inner.watch_value(request, interest).await
    }
}

#[cfg(test)]
#[path = "sealed_kv_tests.rs"]
mod tests;
