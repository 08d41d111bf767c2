//! LimitRanges: what new pods and claims are given and refused.
//!
//! Not here: the rules (`logic/limit_range`).

use serde_json::Value;

use super::{Address, Objects, key, refusal, stored};
use crate::logic::limit_range;
use crate::model::kinds;
use crate::model::kv::RangeRequest;
use crate::model::status::Status;

/// Whether ranges speak of the kind.
pub(super) fn are_about(address: &Address) -> bool {
    let kind = address.kind;
    kind.group.is_empty() && ["pods", "persistentvolumeclaims"].contains(&kind.plural)
}

impl Objects {
    /// The ranges of the object's namespace, in order of their names. Local: a linearizable
    /// read of the same request goes before.
    pub(super) async fn limit_ranges(&self, address: &Address) -> Result<Vec<Value>, Status> {
        let kind = kinds::by_path("", "v1", "limitranges").ok_or_else(Status::unknown_resource)?;
        let prefix = key::prefix(kind, Some(&address.namespace));
        let request = RangeRequest { serializable: true, ..RangeRequest::prefix(prefix) };
        let answer = self.kv.range(request).await.map_err(refusal::of)?;
        answer.kvs.iter().map(|kv| stored::decode(kind, kv)).collect()
    }
}

/// Fills in what a new pod does not say; whether that was anything.
pub(super) fn fill(ranges: &[Value], address: &Address, object: &mut Value) -> bool {
    if address.kind.plural != "pods" {
        return false;
    }
    let mut filled = false;
    for range in ranges {
        filled |= limit_range::fill_pod(range, object);
    }
    filled
}

/// Refuses what a range does not allow.
pub(super) fn check(ranges: &[Value], address: &Address, object: &Value) -> Result<(), Status> {
    let kind = address.kind;
    for range in ranges {
        let why = match kind.plural {
            "pods" => limit_range::refuse_pod(range, object),
            _ => limit_range::refuse_claim(range, object),
        };
        if let Some(why) = why {
            return Err(Status::forbidden(kind.plural, kind.group, &address.name, &why));
        }
    }
    Ok(())
}
