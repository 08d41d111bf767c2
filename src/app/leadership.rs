//! Runs what must run once per cluster, on the store's leader only.
//!
//! Why the store's leader: it is elected anyway, and a controller beside it reads the
//! newest state without asking another node. Two may overlap for a moment after a
//! change; every write is guarded by a revision, so that is harmless.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::dr::sing;
use super::footing_events;
use super::placement::Placement;
use crate::base::chain::chain;
use crate::base::limits::AUDIT_CHAIN_DELAY;
use crate::client::SharedApi;
use crate::client::usage::SharedUsage;
use crate::controllers::{ControllerOptions, ControllerSet};
use crate::model::kv::Revision;
use crate::objects::Objects;
use crate::store::{Kv, Store};

/// How often history is forgotten, and thereby how long it is kept at least.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(300);
/// How soon the bootstrap objects are tried again.
const BOOTSTRAP_RETRY: Duration = Duration::from_millis(500);

/// A part of the leader's work ended although it still leads; the process restarts, so
/// that a leader without controllers does not go unnoticed.
#[derive(Debug, thiserror::Error)]
#[error("the controllers ended although this member leads")]
pub(crate) struct ControllersEnded;

/// What a leader needs.
#[derive(Clone, Debug)]
pub(super) struct Leadership {
    pub node_name: String,
    /// The cluster's authority, PEM.
    pub authority: String,
    pub store: Arc<Store>,
    pub objects: Arc<Objects>,
    pub api: SharedApi,
    pub usage: SharedUsage,
}

impl Leadership {
    /// Follows the election until cancelled.
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<(), ControllersEnded> {
        let mut leader = self.store.leader();
        let own = self.store.member_id();
        loop {
            let leads = *leader.borrow_and_update() == Some(own);
            if leads {
                let term = cancel.child_token();
                tracing::info!("this member leads; starting the controllers");
                let work = self.lead(term.clone());
                tokio::pin!(work);
                loop {
                    tokio::select! {
                        () = &mut work => {
                            if cancel.is_cancelled() {
                                return Ok(());
                            }
                            return Err(ControllersEnded);
                        }
                        changed = leader.changed() => {
                            if changed.is_err() || *leader.borrow_and_update() != Some(own) {
                                tracing::info!("this member leads no longer; stopping the controllers");
                                term.cancel();
                                work.await;
                                break;
                            }
                        }
                    }
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                changed = leader.changed() => {
                    if changed.is_err() {
                        cancel.cancelled().await;
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Everything a leader does, until `term` is cancelled.
    async fn lead(&self, term: CancellationToken) {
        let bootstrap = async {
            while let Err(error) = self.objects.ensure_bootstrap().await {
                tracing::debug!(error = chain(&error), "cannot make the first objects yet");
                tokio::time::sleep(BOOTSTRAP_RETRY).await;
            }
        };
        tokio::select! {
            () = term.cancelled() => return,
            () = bootstrap => {}
        }
        let set = ControllerSet::new(ControllerOptions {
            host: self.node_name.clone(),
            usage: Some(self.usage.clone()),
            authority: self.authority.clone(),
            custom: Some(self.objects.kinds().preferred()),
            ..ControllerOptions::default()
        });
        let controllers = set.run(self.api.clone(), term.clone());
        tokio::pin!(controllers);
        tokio::select! {
            () = &mut controllers => {}
            () = self.compact(term.clone()) => controllers.await,
            () = self.chain_audit(term.clone()) => controllers.await,
            () = self.objects.keep_definitions(term.clone()) => controllers.await,
            () = self.keep_signing(term.clone()) => controllers.await,
            () = Placement::new(self.store.clone()).run(term.clone()) => controllers.await,
            () = footing_events::tell(
                self.store.clone(), self.api.clone(), self.node_name.clone(), term.clone()
            ) => controllers.await,
            () = sing(self.store.clone(), self.node_name.clone(), term.clone()) => {
                controllers.await
            }
        }
    }

    /// Makes the first key for signing tokens as soon as it can be encrypted; then waits.
    async fn keep_signing(&self, term: CancellationToken) {
        let made = async {
            while let Err(error) = self.objects.ensure_signing_key().await {
                tracing::debug!(error = chain(&error), "cannot make a key for tokens yet");
                tokio::time::sleep(BOOTSTRAP_RETRY).await;
            }
        };
        tokio::select! {
            () = term.cancelled() => return,
            () = made => {}
        }
        term.cancelled().await;
    }

    /// Brings what was done into the audit log's chain.
    async fn chain_audit(&self, term: CancellationToken) {
        loop {
            let chained = async {
                self.objects.audit_waits().await?;
                tokio::time::sleep(AUDIT_CHAIN_DELAY).await;
                self.objects.chain_audit().await
            };
            tokio::select! {
                () = term.cancelled() => return,
                done = chained => if let Err(error) = done {
                    tracing::debug!(error = chain(&error), "cannot chain the audit log yet");
                    tokio::time::sleep(AUDIT_CHAIN_DELAY).await;
                },
            }
        }
    }

    /// Forgets history that is older than one interval, like Kubernetes' API server.
    async fn compact(&self, term: CancellationToken) {
        let mut last: Revision = 0;
        loop {
            tokio::select! {
                () = term.cancelled() => return,
                () = tokio::time::sleep(COMPACTION_INTERVAL) => {}
            }
            let newest = self.store.status().revision;
            if last > 0
                && let Err(error) = self.store.compact(last).await
            {
                tracing::warn!(error = chain(&error), revision = last, "cannot compact");
            }
            last = newest;
        }
    }
}
