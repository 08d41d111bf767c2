//! Looks up whether a key is that of a node that was removed.
//!
//! Why by key and not by name: the name may be a successor's by now.
//! Not here: noting it (`node_service`).

use crate::model::cluster_record::REMOVED_PREFIX;
use crate::model::kv::RangeRequest;
use crate::model::node_list::RemovedKey;
use crate::store::Kv;

use super::refused::JoinRefused;

/// What is kept of a key whose node was removed. `newest` asks the majority; without it
/// this member's copy answers, also while there is none.
pub(crate) async fn removed_key(
    kv: &dyn Kv,
    fingerprint: &str,
    newest: bool,
) -> Result<Option<RemovedKey>, JoinRefused> {
    let key = format!("{REMOVED_PREFIX}{fingerprint}");
    let request = RangeRequest { serializable: !newest, ..RangeRequest::key(key.clone()) };
    let Some(found) = kv.range(request).await?.kvs.into_iter().next() else { return Ok(None) };
    serde_json::from_slice(&found.value)
        .map(Some)
        .map_err(|error| JoinRefused::Damaged { key, reason: error.to_string() })
}
