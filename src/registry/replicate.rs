//! Brings content to this node that the cluster's manifests need.
//!
//! Level-triggered: compares what is recorded with what is here, fetches the
//! difference, says in the store what is here. First start, restart and a lost event
//! are the same path. Invariant: presence is recorded only for content on this disk.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::model::kv::{WatchItem, WatchRequest};
use crate::registry::name::Digest;
use crate::registry::records::MANIFESTS;
use crate::registry::{Registry, RegistryError};

/// Blobs fetched at once; more would only share the same links and disks.
const PARALLEL: usize = 3;
/// How soon missing content is tried again.
const RETRY: Duration = Duration::from_secs(3);
/// How often all is compared even without an event.
const RECHECK: Duration = Duration::from_secs(60);
/// Changes within this time are handled together.
const COALESCE: Duration = Duration::from_millis(200);

impl Registry {
    /// Keeps this node complete until cancelled.
    pub async fn run(&self, cancel: CancellationToken) {
        let work = async {
            loop {
                if let Err(error) = self.follow().await {
                    tracing::warn!(error = chain(&error), "cannot follow the registry's records");
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = work => {}
        }
    }

    /// Reconciles at every change; returns when the watch ends.
    async fn follow(&self) -> Result<(), RegistryError> {
        let revision = self.records.snapshot().await?.revision;
        let mut events =
            self.records.kv.watch(WatchRequest::prefix(MANIFESTS, revision + 1)).await?;
        loop {
            let missing = self.reconcile().await?;
            let pause = if missing == 0 { RECHECK } else { RETRY };
            tokio::select! {
                alive = next_change(&mut events) => {
                    if !alive {
                        return Ok(());
                    }
                    tokio::time::sleep(COALESCE).await;
                    while events.try_recv().is_ok() {}
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One comparison; returns how many blobs are still missing.
    pub(super) async fn reconcile(&self) -> Result<usize, RegistryError> {
        let wanted = self.records.snapshot().await?.referenced;
        let here: BTreeSet<Digest> =
            self.blobs.list().await?.into_iter().map(|(digest, _)| digest).collect();
        let missing: Vec<Digest> =
            wanted.keys().filter(|digest| !here.contains(*digest)).cloned().collect();
        let results: Vec<(Digest, Result<(), RegistryError>)> = futures::stream::iter(missing)
            .map(|digest| async move {
                let result = self.fetch(&digest).await;
                (digest, result)
            })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        let mut absent = BTreeSet::new();
        for (digest, result) in results {
            if let Err(error) = result {
                tracing::warn!(%digest, error = chain(&error), "content is still missing here");
                absent.insert(digest);
            }
        }
        let said = self.records.presence(&self.node_name).await?;
        let gained: Vec<(Digest, u64)> = wanted
            .iter()
            .filter(|(digest, _)| !absent.contains(*digest) && !said.contains(*digest))
            .map(|(digest, size)| (digest.clone(), *size))
            .collect();
        let lost: Vec<Digest> = said
            .into_iter()
            .filter(|digest| absent.contains(digest) || !wanted.contains_key(digest))
            .collect();
        self.records.set_presence(&self.node_name, &gained, &lost).await?;
        Ok(absent.len())
    }
}

/// Waits for a change; `false` when the watch has ended.
async fn next_change(events: &mut mpsc::Receiver<WatchItem>) -> bool {
    loop {
        match events.recv().await {
            Some(WatchItem::Events { .. }) => return true,
            Some(WatchItem::Progress(_)) => {}
            Some(WatchItem::Compacted { .. }) | None => return false,
        }
    }
}
