//! What the store and its routes declare as traits, done by others.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::api::store_upkeep::StoreUpkeep;
use crate::install::recover::is_signed_generation;
use crate::model::recovery::{MemberSummary, SignedGeneration};
use crate::store::{GenerationTrust, SnapshotFormat, Store, StoreError};

/// Trusts what the cluster's authority signed.
#[derive(Debug)]
pub(super) struct AuthorityTrust {
    /// Its certificate, PEM.
    pub(super) authority: String,
}

impl GenerationTrust for AuthorityTrust {
    fn is_signed(&self, record: &SignedGeneration) -> bool {
        is_signed_generation(&self.authority, record)
    }
}

/// The store's upkeep over this node's member.
#[derive(Debug)]
pub(super) struct MemberUpkeep(pub(super) Arc<Store>);

#[async_trait]
impl StoreUpkeep for MemberUpkeep {
    fn summary(&self) -> MemberSummary {
        self.0.summary()
    }

    async fn snapshot(
        &self,
        format: SnapshotFormat,
    ) -> Result<mpsc::Receiver<Result<Bytes, StoreError>>, StoreError> {
        self.0.snapshot_stream(format).await
    }
}
