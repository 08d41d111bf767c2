//! The registry's records in the replicated store.
//!
//! ```text
//! /holdfast/registry/manifests/<repository>@<digest>          ManifestRecord, JSON
//! /holdfast/registry/tags/<repository>:<tag>                  digest
//! /holdfast/registry/referrers/<repository>@<subject>/<digest>  empty
//! /holdfast/registry/presence/<node>/<digest>                 size
//! ```
//! Neither `@` nor `:` can occur in a repository's name, so no key of one repository is
//! a prefix match for another.
//! Invariants: a tag points to a manifest that was recorded in the same or an earlier
//! transaction and is removed with it. Reads are linearizable; where the store has no
//! leader they fall back to this node's copy, because content is named by digest and
//! pods must start while the control plane is down. Deletions never use that fallback.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::model::kv::{Compare, KeyValue, Op, RangeRequest, Revision, TxnRequest};
use crate::registry::RegistryError;
use crate::registry::manifest::ManifestRecord;
use crate::registry::name::{Digest, Repository, Tag};
use crate::store::{Kv, StoreError};

pub(super) const MANIFESTS: &str = "/holdfast/registry/manifests/";
const TAGS: &str = "/holdfast/registry/tags/";
const REFERRERS: &str = "/holdfast/registry/referrers/";
const PRESENCE: &str = "/holdfast/registry/presence/";

/// Keys a range call may bring at once.
const PAGE: i64 = 1_000;
/// Operations in one transaction, below the store's bound.
const BATCH: usize = 100;
/// How often a lost race is tried again.
const TRIES: usize = 16;

fn manifest_key(repository: &Repository, digest: &Digest) -> String {
    format!("{MANIFESTS}{repository}@{digest}")
}

fn tag_key(repository: &Repository, tag: &Tag) -> String {
    format!("{TAGS}{repository}:{tag}")
}

fn referrer_key(repository: &Repository, subject: &Digest, digest: &Digest) -> String {
    format!("{REFERRERS}{repository}@{subject}/{digest}")
}

/// Everything recorded at one revision.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) revision: Revision,
    /// Content that some manifest needs, manifests themselves included, with its size.
    pub(super) referenced: BTreeMap<Digest, u64>,
}

/// A manifest's record and where it stands.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) repository: String,
    pub(super) digest: Digest,
    pub(super) record: ManifestRecord,
}

/// Reads and writes records.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) kv: Arc<dyn Kv>,
}

fn decode(kv: &KeyValue) -> Result<ManifestRecord, RegistryError> {
    serde_json::from_slice(&kv.value).map_err(|source| RegistryError::DamagedRecord {
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        source,
    })
}

fn text_behind<'a>(kv: &'a KeyValue, prefix: &str) -> Option<&'a str> {
    std::str::from_utf8(&kv.key).ok()?.strip_prefix(prefix)
}

impl Records {
    pub(super) fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv }
    }

    /// One key, from this node's copy where there is no leader.
    async fn get(&self, key: String) -> Result<Option<KeyValue>, RegistryError> {
        let request = RangeRequest::key(key);
        let answer = match self.kv.range(request.clone()).await {
            Err(
                StoreError::NoLeader { .. } | StoreError::NoQuorum(_) | StoreError::HeldBack { .. },
            ) => self.kv.range(RangeRequest { serializable: true, ..request }).await,
            other => other,
        };
        Ok(answer?.kvs.into_iter().next())
    }

    /// All keys with a prefix at one revision.
    async fn all(
        &self,
        prefix: &str,
        keys_only: bool,
    ) -> Result<(Revision, Vec<KeyValue>), RegistryError> {
        let mut request =
            RangeRequest { limit: PAGE, keys_only, ..RangeRequest::prefix(prefix.to_owned()) };
        let mut found: Vec<KeyValue> = Vec::new();
        loop {
            let page = self.kv.range(request.clone()).await?;
            if request.revision == 0 {
                request.revision = page.revision;
            }
            found.extend(page.kvs);
            match found.last() {
                Some(last) if page.more => {
                    let mut next = last.key.to_vec();
                    next.push(0);
                    request.key = next.into();
                }
                _ => return Ok((request.revision, found)),
            }
        }
    }

    pub(super) async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<ManifestRecord>, RegistryError> {
        let found = self.get(manifest_key(repository, digest)).await?;
        found.as_ref().map(decode).transpose()
    }

    pub(super) async fn tagged(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<Digest>, RegistryError> {
        match self.get(tag_key(repository, tag)).await? {
            Some(kv) => Ok(Some(String::from_utf8_lossy(&kv.value).parse()?)),
            None => Ok(None),
        }
    }

    /// Records a manifest and, if given, a tag for it; returns whether anything changed.
    pub(super) async fn put_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        record: &ManifestRecord,
        tag: Option<&Tag>,
    ) -> Result<bool, RegistryError> {
        let known = self.manifest(repository, digest).await?;
        let tagged = match tag {
            Some(tag) => self.tagged(repository, tag).await?.as_ref() == Some(digest),
            None => true,
        };
        if known.as_ref() == Some(record) && tagged {
            return Ok(false);
        }
        let value = serde_json::to_vec(record).expect("a record has only string keys");
        let mut success = vec![Op::put(manifest_key(repository, digest), value)];
        if let Some(subject) = &record.subject {
            success.push(Op::put(referrer_key(repository, subject, digest), Bytes::new()));
        }
        if let Some(tag) = tag {
            success.push(Op::put(tag_key(repository, tag), digest.to_string()));
        }
        self.kv.txn(TxnRequest { success, ..TxnRequest::default() }).await?;
        Ok(true)
    }

    /// Removes a tag; returns whether it was there.
    pub(super) async fn delete_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<bool, RegistryError> {
        let key = tag_key(repository, tag);
        if self.get(key.clone()).await?.is_none() {
            return Ok(false);
        }
        let success = vec![Op::delete(key)];
        self.kv.txn(TxnRequest { success, ..TxnRequest::default() }).await?;
        Ok(true)
    }

    /// Removes a manifest with the tags that point to it; returns whether it was there.
    pub(super) async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let key = manifest_key(repository, digest);
        for _ in 0..TRIES {
            let found = self.kv.range(RangeRequest::key(key.clone())).await?;
            let Some(kv) = found.kvs.first() else { return Ok(false) };
            let record = decode(kv)?;
            let mut compare = vec![Compare::mod_revision(key.clone(), kv.mod_revision)];
            let mut success = vec![Op::delete(key.clone())];
            if let Some(subject) = &record.subject {
                success.push(Op::delete(referrer_key(repository, subject, digest)));
            }
            let (_, tags) = self.all(&format!("{TAGS}{repository}:"), false).await?;
            for tag in tags.iter().filter(|tag| tag.value == digest.as_str().as_bytes()) {
                compare.push(Compare::mod_revision(tag.key.clone(), tag.mod_revision));
                success.push(Op::delete(tag.key.clone()));
            }
            let request = TxnRequest { compare, success, failure: Vec::new() };
            if self.kv.txn(request).await?.succeeded {
                return Ok(true);
            }
        }
        Err(RegistryError::Contended { what: format!("{repository}@{digest}") })
    }

    pub(super) async fn repository_exists(
        &self,
        repository: &Repository,
    ) -> Result<bool, RegistryError> {
        let request =
            RangeRequest { limit: 1, ..RangeRequest::prefix(format!("{MANIFESTS}{repository}@")) };
        Ok(!self.kv.range(request).await?.kvs.is_empty())
    }

    pub(super) async fn repositories(&self) -> Result<Vec<String>, RegistryError> {
        let (_, found) = self.all(MANIFESTS, true).await?;
        let names: BTreeSet<&str> = found
            .iter()
            .filter_map(|kv| text_behind(kv, MANIFESTS)?.split_once('@').map(|parts| parts.0))
            .collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    pub(super) async fn tags(&self, repository: &Repository) -> Result<Vec<String>, RegistryError> {
        let prefix = format!("{TAGS}{repository}:");
        let (_, found) = self.all(&prefix, true).await?;
        Ok(found.iter().filter_map(|kv| text_behind(kv, &prefix)).map(str::to_owned).collect())
    }

    /// Manifests whose subject is `subject`, with their digests.
    pub(super) async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<(Digest, ManifestRecord)>, RegistryError> {
        let prefix = format!("{REFERRERS}{repository}@{subject}/");
        let (_, found) = self.all(&prefix, true).await?;
        let mut referrers = Vec::new();
        for digest in found.iter().filter_map(|kv| text_behind(kv, &prefix)) {
            let digest: Digest = digest.parse()?;
            if let Some(record) = self.manifest(repository, &digest).await? {
                referrers.push((digest, record));
            }
        }
        Ok(referrers)
    }

    /// What must be kept, read linearizably: an answer that may be old would let
    /// collection delete what was just pushed.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, RegistryError> {
        let (revision, found) = self.all(MANIFESTS, false).await?;
        let mut snapshot = Snapshot { revision, ..Snapshot::default() };
        for kv in &found {
            let record = decode(kv)?;
            let digest = text_behind(kv, MANIFESTS)
                .and_then(|text| text.split_once('@'))
                .map(|parts| parts.1.parse::<Digest>())
                .transpose()?;
            snapshot.referenced.extend(digest.map(|digest| (digest, record.size)));
            snapshot
                .referenced
                .extend(record.needs.into_iter().map(|need| (need.digest, need.size)));
        }
        Ok(snapshot)
    }

    /// All manifests of all repositories.
    pub(super) async fn manifests(&self) -> Result<Vec<Recorded>, RegistryError> {
        let (_, found) = self.all(MANIFESTS, false).await?;
        let mut manifests = Vec::new();
        for kv in &found {
            let Some((repository, digest)) =
                text_behind(kv, MANIFESTS).and_then(|text| text.split_once('@'))
            else {
                continue;
            };
            manifests.push(Recorded {
                repository: repository.to_owned(),
                digest: digest.parse()?,
                record: decode(kv)?,
            });
        }
        Ok(manifests)
    }

    /// All tags: repository, tag and the digest it points to.
    pub(super) async fn all_tags(&self) -> Result<Vec<(String, String, String)>, RegistryError> {
        let (_, found) = self.all(TAGS, false).await?;
        let tags = found.iter().filter_map(|kv| {
            let (repository, tag) = text_behind(kv, TAGS)?.split_once(':')?;
            let digest = String::from_utf8_lossy(&kv.value).into_owned();
            Some((repository.to_owned(), tag.to_owned(), digest))
        });
        Ok(tags.collect())
    }

    /// What each node has said that it holds.
    pub(super) async fn all_presence(
        &self,
    ) -> Result<BTreeMap<String, BTreeSet<Digest>>, RegistryError> {
        let (_, found) = self.all(PRESENCE, true).await?;
        let mut nodes: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
        for kv in &found {
            if let Some((node, digest)) =
                text_behind(kv, PRESENCE).and_then(|text| text.split_once('/'))
            {
                nodes.entry(node.to_owned()).or_default().insert(digest.parse()?);
            }
        }
        Ok(nodes)
    }

    /// What this node has said that it holds.
    pub(super) async fn presence(&self, node: &str) -> Result<BTreeSet<Digest>, RegistryError> {
        let prefix = format!("{PRESENCE}{node}/");
        let (_, found) = self.all(&prefix, true).await?;
        Ok(found.iter().filter_map(|kv| text_behind(kv, &prefix)?.parse().ok()).collect())
    }

    /// Says what this node holds now and what it holds no more.
    pub(super) async fn set_presence(
        &self,
        node: &str,
        gained: &[(Digest, u64)],
        lost: &[Digest],
    ) -> Result<(), RegistryError> {
        let key = |digest: &Digest| format!("{PRESENCE}{node}/{digest}");
        let puts = gained.iter().map(|(digest, size)| Op::put(key(digest), size.to_string()));
        let deletions = lost.iter().map(|digest| Op::delete(key(digest)));
        let operations: Vec<Op> = puts.chain(deletions).collect();
        for batch in operations.chunks(BATCH) {
            let request = TxnRequest { success: batch.to_vec(), ..TxnRequest::default() };
            self.kv.txn(request).await?;
        }
        Ok(())
    }
}

/// Forgets all that a node has said it holds; repeating it is no error.
pub async fn forget_node(kv: Arc<dyn Kv>, node: &str) -> Result<(), RegistryError> {
    let records = Records::new(kv);
    let held: Vec<Digest> = records.presence(node).await?.into_iter().collect();
    records.set_presence(node, &[], &held).await
}
