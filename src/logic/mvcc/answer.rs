//! Answers a range read: what is fetched, left out, sorted and cut off, in etcd's order.
//!
//! Source: etcd `server/etcdserver/txn/range.go`. First everything that may be needed is
//! fetched, then the bounds on revisions are applied, then it is sorted, then limited.
//! `count` is the number of keys in the range, whatever the bounds leave of them. As in
//! etcd an answer sorted by a target without an order is limited *before* it is sorted.

use std::cmp::Ordering;

use bytes::Bytes;

use super::{KeyRange, MvccError, MvccView, Revisions, check_revision};
use crate::model::kv::{KeyValue, RangeRequest, RangeResponse, Revision, SortOrder, SortTarget};
use crate::model::refusal::Refusal;

/// Answers a range read.
pub fn run_range<V: MvccView>(
    view: &V,
    revisions: Revisions,
    request: &RangeRequest,
) -> Result<RangeResponse, MvccError<V::Error>> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey.into());
    }
    check_revision(revisions, request.revision)?;
    let range = KeyRange::new(request.key.clone(), request.range_end.clone());
    // A read at the newest revision is the newest state, which is cheaper to find.
    let at =
        (request.revision > 0 && request.revision < revisions.current).then_some(request.revision);
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let whole = !comes_in_order(request) || has_bounds(request);
    let take = match (request.count_only, limit) {
        (true, _) => 0,
        (false, 0) => usize::MAX,
        (false, _) if whole => usize::MAX,
        (false, limit) => limit.saturating_add(1),
    };
    let scan = view.scan(&range, at, take).map_err(MvccError::View)?;
    let mut kvs = scan.kvs;
    if has_bounds(request) {
        kvs.retain(|kv| is_within(request, kv));
    }
    sort(request, &mut kvs);
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if request.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::new();
        }
    }
    let count = i64::try_from(scan.count).unwrap_or(i64::MAX);
    Ok(RangeResponse { revision: revisions.current, kvs, more, count })
}

fn comes_in_order(request: &RangeRequest) -> bool {
    request.sort_order == SortOrder::None
        || (request.sort_order == SortOrder::Ascend && request.sort_target == SortTarget::Key)
}

fn has_bounds(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn is_within(request: &RangeRequest, kv: &KeyValue) -> bool {
    let between = |revision: Revision, min: Revision, max: Revision| {
        (min == 0 || revision >= min) && (max == 0 || revision <= max)
    };
    between(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && between(kv.create_revision, request.min_create_revision, request.max_create_revision)
}

fn sort(request: &RangeRequest, kvs: &mut [KeyValue]) {
    let by: fn(&KeyValue, &KeyValue) -> Ordering = match request.sort_target {
        SortTarget::Key => {
            if request.sort_order == SortOrder::Descend {
                kvs.reverse();
            }
            return;
        }
        SortTarget::Version => |a, b| a.version.cmp(&b.version),
        SortTarget::Create => |a, b| a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => |a, b| a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => |a, b| a.value.cmp(&b.value),
    };
    match request.sort_order {
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(by),
        SortOrder::Descend => kvs.sort_by(|a, b| by(b, a)),
    }
}
