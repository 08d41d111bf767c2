//! Removes content that nothing needs any more.
//!
//! Invariants: content is removed only if a linearizable read says that no manifest
//! needs it, nobody pinned it, and it was not touched for the safe age; while that is
//! decided and done, no manifest is recorded here. Any error ends the run with nothing
//! more removed: in doubt content stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::registry::name::Digest;
use crate::registry::{Registry, RegistryError};

/// The least safe age: long enough for a slow client between its last layer and its
/// manifest.
const LEAST_SAFE_AGE: Duration = Duration::from_secs(3_600);

/// What a run removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectReport {
    pub blobs_removed: usize,
    pub bytes_removed: u64,
    pub blobs_kept: usize,
    pub uploads_removed: usize,
}

/// Content on this disk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    digest: Digest,
    age: Duration,
}

/// Which of the candidates may go.
fn decide(
    candidates: &[Candidate],
    referenced: &BTreeMap<Digest, u64>,
    pinned: &BTreeSet<Digest>,
    safe_age: Duration,
) -> Vec<Digest> {
    candidates
        .iter()
        .filter(|candidate| candidate.age >= safe_age)
        .map(|candidate| &candidate.digest)
        .filter(|digest| !referenced.contains_key(*digest) && !pinned.contains(*digest))
        .cloned()
        .collect()
}

impl Registry {
    /// Collects on this node. `pinned` holds digests that must stay though no manifest
    /// needs them; a safe age under one hour is raised to it.
    pub async fn collect(
        &self,
        pinned: &BTreeSet<Digest>,
        safe_age: Duration,
    ) -> Result<CollectReport, RegistryError> {
        self.collect_older(pinned, safe_age.max(LEAST_SAFE_AGE)).await
    }

    pub(super) async fn collect_older(
        &self,
        pinned: &BTreeSet<Digest>,
        safe_age: Duration,
    ) -> Result<CollectReport, RegistryError> {
        let mut report = CollectReport::default();
        let _exclusive = self.writing.write().await;
        let files = self.blobs.list().await?;
        // Read after listing: a manifest recorded meanwhile on another node counts.
        let referenced = self.records.snapshot().await?.referenced;
        let candidates: Vec<Candidate> = files
            .iter()
            .map(|(digest, file)| Candidate { digest: digest.clone(), age: file.age })
            .collect();
        let lengths: BTreeMap<&Digest, u64> =
            files.iter().map(|(digest, file)| (digest, file.length)).collect();
        for digest in decide(&candidates, &referenced, pinned, safe_age) {
            if self.blobs.remove(&digest).await? {
                report.blobs_removed += 1;
                report.bytes_removed += lengths.get(&digest).copied().unwrap_or(0);
            }
        }
        report.blobs_kept = files.len() - report.blobs_removed;
        report.uploads_removed = self.uploads.expire().await?;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_unreferenced_unpinned_content_goes() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let candidate =
            |text, age| Candidate { digest: digest(text), age: Duration::from_secs(age) };
        let candidates = [
            candidate("used", 99),
            candidate("pinned", 99),
            candidate("young", 9),
            candidate("old", 10),
        ];
        let referenced = BTreeMap::from([(digest("used"), 4)]);
        let pinned = BTreeSet::from([digest("pinned")]);
        let gone = decide(&candidates, &referenced, &pinned, Duration::from_secs(10));
        assert_eq!(gone, vec![digest("old")]);
    }
}
