//! Brings all control nodes to the same keys for secrets, and secrets to the newest key.
//!
//! ```text
//!  store: who holds which key, which is active ─► logic/key_rotation ─► one step ─► again
//!  keys themselves: this node's file ◄──── mutual TLS ────► another control node's file
//! ```
//! A new cluster's first node makes the first key, a joining control node is given all keys
//! in the answer to its join, and whatever is missing later (a rotation, an import, the
//! upgrade of a cluster that had no keys) is fetched from a control node that has it.
//! Invariants: a key is durable in this node's file before anybody hears of it; the store
//! only ever learns ids. Not here: what is next (`logic`), the bytes (`pki`), HTTP (`api`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::logic::key_rotation::{Step, View};
use crate::model::cluster_record::{NODES_PREFIX, NodeRecord};
use crate::model::kv::{Op, RangeRequest, Revision, TxnRequest, WatchRequest};
use crate::model::node_config::Role;
use crate::model::secret_keys::{
    HOLDERS_PREFIX, Holder, KeyId, ROTATION_KEY, Rotation, SECRET_KEYS_PREFIX, SecretKey,
    SecretKeysStatus,
};
use crate::objects::SealedKv;
use crate::pki::{KeyRing, PkiError, SecretKeys, new_secret_key};
use crate::store::{Kv, StoreError};

use super::refused::JoinRefused;
use super::tokens::{Clock, put_record, read_record, unchanged};

/// How long nothing may be heard before everything is looked at again.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How soon a failed step is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The way to other control nodes; wired to `remote`.
#[async_trait]
pub trait KeyPeers: Send + Sync + std::fmt::Debug {
    /// All keys of a control node.
    async fn keys_of(&self, server: SocketAddr) -> Result<Vec<SecretKey>, String>;
}

/// What the service needs.
#[derive(Clone)]
pub struct SecretKeyInput {
    /// The store itself, without encryption.
    pub kv: Arc<dyn Kv>,
    pub sealed: Arc<SealedKv>,
    pub keys: Arc<SecretKeys>,
    /// The file that [`SecretKeys`] came from.
    pub path: PathBuf,
    pub own_name: String,
    pub api_port: u16,
    pub peers: Arc<dyn KeyPeers>,
    /// Whether this node leads the store's group now.
    pub leads: Arc<dyn Fn() -> bool + Send + Sync>,
    pub clock: Clock,
}

impl std::fmt::Debug for SecretKeyInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretKeyInput").field("own", &self.own_name).finish_non_exhaustive()
    }
}

/// Why a step could not be done; it is tried again.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Records(#[from] JoinRefused),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Keys(#[from] PkiError),
    #[error("no control node hands over the missing keys: {reason}")]
    Peers { reason: String },
}

/// One on every control node.
#[derive(Debug)]
pub struct SecretKeyService {
    input: SecretKeyInput,
    /// The file is changed by one at a time.
    file: Mutex<()>,
    looked: AtomicBool,
    wake: Notify,
}

/// What the store says, with the revision that the rotation was read at.
struct Seen {
    view: View,
    revision: Revision,
    addresses: BTreeMap<String, SocketAddr>,
}

impl SecretKeyService {
    pub fn new(input: SecretKeyInput) -> Self {
        let (file, wake) = (Mutex::new(()), Notify::new());
        Self { input, file, looked: AtomicBool::new(false), wake }
    }

    /// Follows the store until cancelled.
    pub async fn run(&self, cancel: CancellationToken) {
        let kv = &self.input.kv;
        while !cancel.is_cancelled() {
            let heard = async {
                let watch = |prefix: &'static str| kv.watch(WatchRequest::prefix(prefix, 0));
                let opened = tokio::try_join!(watch(SECRET_KEYS_PREFIX), watch(NODES_PREFIX));
                let Ok((mut changes, mut nodes)) = opened else {
                    return tokio::time::sleep(RETRY).await;
                };
                loop {
                    let settled = self.settle().await;
                    let pause = if settled { LOOK_INTERVAL } else { RETRY };
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep(pause) => {}
                        change = changes.recv() => if change.is_none() { return },
                        change = nodes.recv() => if change.is_none() { return },
                    }
                }
            };
            tokio::select! {
                () = cancel.cancelled() => {}
                () = heard => {}
            }
        }
    }

    /// Does steps until others must act; false if one failed.
    async fn settle(&self) -> bool {
        loop {
            match self.step().await {
                Ok(true) => {}
                Ok(false) => return true,
                Err(error) => {
                    tracing::debug!(error = chain(&error), "the keys of secrets must wait");
                    return false;
                }
            }
        }
    }

    /// The next step; false if there is none.
    async fn step(&self) -> Result<bool, StepError> {
        let seen = self.see().await?;
        // From here on values are encrypted with what the cluster agreed on.
        let active = seen.view.rotation.active;
        if self.input.keys.active() != active {
            self.input.keys.set_active(active);
        }
        let Some(step) = seen.view.next() else { return Ok(false) };
        match step {
            Step::Generate => {
                let key = new_secret_key((self.input.clock)());
                self.take(vec![key]).await?;
            }
            Step::Fetch { from } => self.fetch(&from, &seen).await?,
            Step::Announce(holder) => {
                let key = format!("{HOLDERS_PREFIX}{}", self.input.own_name);
                let success = vec![put_record(&key, &holder)];
                let txn = TxnRequest { compare: Vec::new(), success, failure: Vec::new() };
                self.input.kv.txn(txn).await?;
            }
            Step::Propose(id) => {
                self.agree(&seen, |rotation| rotation.pending = Some(id)).await?;
            }
            Step::Withdraw(_) => {
                self.agree(&seen, |rotation| rotation.pending = None).await?;
            }
            Step::Activate(id) => {
                tracing::info!(key = %id, "secrets are encrypted with this key from now on");
                self.agree(&seen, |rotation| {
                    rotation.active = Some(id);
                    rotation.pending = None;
                })
                .await?;
            }
            Step::Sweep(id) => {
                let swept = self.input.sealed.sweep(id).await?;
                tracing::info!(key = %id, rewritten = swept.rewritten, unreadable = swept.unreadable, "every secret was looked at");
                self.looked.store(true, Ordering::Relaxed);
                if seen.view.rotation.swept != Some(id) {
                    self.agree(&seen, |rotation| rotation.swept = Some(id)).await?;
                }
            }
        }
        Ok(true)
    }

    async fn see(&self) -> Result<Seen, StepError> {
        let kv = self.input.kv.as_ref();
        let rotation = read_record::<Rotation>(kv, ROTATION_KEY).await?;
        let mut holders = BTreeMap::new();
        for found in kv.range(RangeRequest::prefix(HOLDERS_PREFIX)).await?.kvs {
            let key = String::from_utf8_lossy(&found.key).into_owned();
            let holder: Holder = parse(&key, &found.value)?;
            holders.insert(key[HOLDERS_PREFIX.len()..].to_owned(), holder);
        }
        let mut addresses = BTreeMap::new();
        for found in kv.range(RangeRequest::prefix(NODES_PREFIX)).await?.kvs {
            let node: NodeRecord = parse(&String::from_utf8_lossy(&found.key), &found.value)?;
            if node.joined && !node.leaving && node.roles.contains(&Role::Control) {
                addresses.insert(node.name, SocketAddr::new(node.address, self.input.api_port));
            }
        }
        let leads = (self.input.leads)();
        if !leads {
            self.looked.store(false, Ordering::Relaxed);
        }
        let ring = self.input.keys.ring().to_vec();
        let newest = ring.iter().max_by_key(|key| key.created_at).map(|key| key.id);
        let view = View {
            own_name: self.input.own_name.clone(),
            leads,
            rotation: rotation.value.unwrap_or_default(),
            holders,
            control_nodes: addresses.keys().cloned().collect::<BTreeSet<String>>(),
            ring: ring.iter().map(|key| key.id).collect(),
            newest,
            looked: self.looked.load(Ordering::Relaxed),
        };
        Ok(Seen { view, revision: rotation.revision, addresses })
    }

    /// Writes the changed rotation unless somebody was faster; then the next look decides.
    async fn agree(
        &self,
        seen: &Seen,
        change: impl FnOnce(&mut Rotation),
    ) -> Result<bool, StepError> {
        let mut rotation = seen.view.rotation.clone();
        change(&mut rotation);
        let txn = TxnRequest {
            compare: vec![unchanged(ROTATION_KEY, seen.revision)],
            success: vec![put_record(ROTATION_KEY, &rotation)],
            failure: Vec::new(),
        };
        Ok(self.input.kv.txn(txn).await?.succeeded)
    }

    /// Puts keys into the file, and then to use; tells how many were new.
    async fn take(&self, keys: Vec<SecretKey>) -> Result<usize, PkiError> {
        let _alone = self.file.lock().await;
        let mut ring: KeyRing = self.input.keys.ring();
        let refused = |reason| PkiError::Crypto { action: "take keys of secrets", reason };
        let added = ring.add(keys).map_err(refused)?;
        if added > 0 {
            ring.save(&self.input.path)?;
            self.input.keys.set(ring, self.input.keys.active());
        }
        Ok(added)
    }

    async fn fetch(&self, from: &[String], seen: &Seen) -> Result<(), StepError> {
        let mut silent = Vec::new();
        let mut added = 0;
        for server in from.iter().filter_map(|name| seen.addresses.get(name)) {
            match self.input.peers.keys_of(*server).await {
                Ok(keys) => added += self.take(keys).await?,
                Err(reason) => silent.push(reason),
            }
        }
        if added == 0 {
            return Err(StepError::Peers { reason: silent.join("; ") });
        }
        tracing::info!(added, "keys of secrets were fetched from other control nodes");
        Ok(())
    }

    /// All keys, for another control node.
    pub fn all(&self) -> Vec<SecretKey> {
        self.input.keys.ring().to_vec()
    }

    /// Begins a rotation; tells the new key.
    pub async fn rotate(&self) -> Result<KeyId, JoinRefused> {
        let seen = self.see().await.map_err(refused)?;
        let rotation = &seen.view.rotation;
        if rotation.active.is_none() || rotation.pending.is_some() {
            let reason = format!(
                "a key is on its way already and waits for {}; see `holdfast secrets status`",
                seen.view.waiting_for().join(", ")
            );
            return Err(JoinRefused::BadRequest { reason });
        }
        let key = new_secret_key((self.input.clock)());
        let id = key.id;
        self.take(vec![key]).await.map_err(JoinRefused::Pki)?;
        let holder = Holder { keys: self.input.keys.ring().ids(), uses: rotation.active };
        let rotation = Rotation { pending: Some(id), ..rotation.clone() };
        // Both at once, or the leader would think that nobody holds it.
        let txn = TxnRequest {
            compare: vec![unchanged(ROTATION_KEY, seen.revision)],
            success: vec![
                put_record(ROTATION_KEY, &rotation),
                put_record(&format!("{HOLDERS_PREFIX}{}", self.input.own_name), &holder),
            ],
            failure: Vec::new(),
        };
        if !self.input.kv.txn(txn).await?.succeeded {
            return Err(JoinRefused::Contended);
        }
        self.wake.notify_one();
        Ok(id)
    }

    /// Takes keys from a backup; what they open is encrypted anew in the background.
    pub async fn import(&self, file: &[u8]) -> Result<usize, JoinRefused> {
        let ring = KeyRing::parse(file).map_err(|reason| JoinRefused::BadRequest { reason })?;
        let added = self.take(ring.to_vec()).await.map_err(JoinRefused::Pki)?;
        for _ in 0..IMPORT_ATTEMPTS {
            let seen = self.see().await.map_err(refused)?;
            if self.agree(&seen, |rotation| rotation.swept = None).await.map_err(refused)? {
                self.wake.notify_one();
                return Ok(added);
            }
        }
        Err(JoinRefused::Contended)
    }

    /// How far everything is.
    pub async fn status(&self) -> Result<SecretKeysStatus, JoinRefused> {
        let seen = self.see().await.map_err(refused)?;
        let found = self.input.sealed.look().await?;
        let view = seen.view;
        let holder = |name: &String| view.holders.get(name).cloned().unwrap_or_default();
        Ok(SecretKeysStatus {
            answered_by: self.input.own_name.clone(),
            waiting_for: view.waiting_for(),
            control_nodes: view
                .control_nodes
                .iter()
                .map(|name| (name.clone(), holder(name)))
                .collect(),
            missing: found.by_key.keys().filter(|id| !view.ring.contains(id)).copied().collect(),
            rotation: view.rotation,
            values: found.by_key,
            plain: found.plain,
        })
    }
}

/// How often an import that lost a race is tried again.
const IMPORT_ATTEMPTS: usize = 8;

fn parse<T: serde::de::DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, JoinRefused> {
    serde_json::from_slice(value)
        .map_err(|error| JoinRefused::Damaged { key: key.to_owned(), reason: error.to_string() })
}

fn refused(error: StepError) -> JoinRefused {
    match error {
        StepError::Records(refused) => refused,
        StepError::Store(error) => error.into(),
        StepError::Keys(error) => JoinRefused::Pki(error),
        StepError::Peers { reason } => JoinRefused::Membership { reason },
    }
}

/// Removes what the store says of a node that is no more.
pub(crate) fn forget_holder(node_name: &str) -> Op {
    Op::delete(format!("{HOLDERS_PREFIX}{node_name}").into_bytes())
}

#[cfg(test)]
#[path = "secret_keys_tests.rs"]
mod tests;
