//! Between the protocol's messages and the store's vocabulary.
//!
//! Why by hand: the store's types outlive a version of the protocol, and the mapping is
//! where a message that says nothing sensible is refused.
//! Not here: rules about what a request may hold (`logic/mvcc`), errors (`errors`).

use tonic::Status;

use super::errors::refused;
use super::messages::etcdserverpb as pb;
use super::messages::etcdserverpb::request_op::Request as PbRequest;
use super::messages::etcdserverpb::response_op::Response as PbResponse;
use super::messages::mvccpb;
use crate::model::kv::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, Event, EventKind, KeyValue, Op,
    OpResponse, PutRequest, RangeRequest, RangeResponse, SortOrder, SortTarget, TxnRequest,
    TxnResponse,
};
use crate::model::refusal::Refusal;

pub(super) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

pub(super) fn event(event: Event) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Put => mvccpb::event::EventType::Put,
        EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(key_value(event.kv)),
        prev_kv: event.prev_kv.map(key_value),
    }
}

pub(super) fn range_request(request: pb::RangeRequest) -> Result<RangeRequest, Status> {
    use pb::range_request::{SortOrder as PbOrder, SortTarget as PbTarget};
    let unsortable = |_| refused(Refusal::InvalidSortOption);
    let sort_order = match PbOrder::try_from(request.sort_order).map_err(unsortable)? {
        PbOrder::None => SortOrder::None,
        PbOrder::Ascend => SortOrder::Ascend,
        PbOrder::Descend => SortOrder::Descend,
    };
    let sort_target = match PbTarget::try_from(request.sort_target).map_err(unsortable)? {
        PbTarget::Key => SortTarget::Key,
        PbTarget::Version => SortTarget::Version,
        PbTarget::Create => SortTarget::Create,
        PbTarget::Mod => SortTarget::Mod,
        PbTarget::Value => SortTarget::Value,
    };
    Ok(RangeRequest {
        key: request.key,
        range_end: request.range_end,
        // Anything below 1 is the newest, as in etcd; so is a limit below 1 none.
        revision: request.revision.max(0),
        limit: request.limit.max(0),
        keys_only: request.keys_only,
        count_only: request.count_only,
        serializable: request.serializable,
        sort_order,
        sort_target,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

pub(super) fn range_response(
    answer: RangeResponse,
    header: Option<pb::ResponseHeader>,
) -> pb::RangeResponse {
    pb::RangeResponse {
        header,
        kvs: answer.kvs.into_iter().map(key_value).collect(),
        more: answer.more,
        count: answer.count,
    }
}

pub(super) fn put_request(request: pb::PutRequest) -> PutRequest {
    PutRequest {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

pub(super) fn delete_request(request: pb::DeleteRangeRequest) -> DeleteRangeRequest {
    DeleteRangeRequest { key: request.key, range_end: request.range_end, prev_kv: request.prev_kv }
}

fn compare(compare: pb::Compare) -> Result<Compare, Status> {
    use pb::compare::{CompareResult, CompareTarget as PbTarget, TargetUnion};
    let unknown = |_| Status::invalid_argument("etcdserver: unknown kind of compare");
    let op = match CompareResult::try_from(compare.result).map_err(unknown)? {
        CompareResult::Equal => CompareOp::Equal,
        CompareResult::Greater => CompareOp::Greater,
        CompareResult::Less => CompareOp::Less,
        CompareResult::NotEqual => CompareOp::NotEqual,
    };
    let given = compare.target_union;
    // A value of another kind than the target's counts as that kind's zero, as in etcd.
    let target = match PbTarget::try_from(compare.target).map_err(unknown)? {
        PbTarget::Version => CompareTarget::Version(match given {
            Some(TargetUnion::Version(version)) => version,
            _ => 0,
        }),
        PbTarget::Create => CompareTarget::CreateRevision(match given {
            Some(TargetUnion::CreateRevision(revision)) => revision,
            _ => 0,
        }),
        PbTarget::Mod => CompareTarget::ModRevision(match given {
            Some(TargetUnion::ModRevision(revision)) => revision,
            _ => 0,
        }),
        PbTarget::Value => CompareTarget::Value(match given {
            Some(TargetUnion::Value(value)) => value,
            _ => bytes::Bytes::new(),
        }),
        PbTarget::Lease => CompareTarget::Lease(match given {
            Some(TargetUnion::Lease(lease)) => lease,
            _ => 0,
        }),
    };
    Ok(Compare { key: compare.key, range_end: compare.range_end, op, target })
}

fn op(op: pb::RequestOp) -> Result<Op, Status> {
    Ok(match op.request.ok_or_else(|| refused(Refusal::KeyNotFound))? {
        PbRequest::RequestRange(request) => Op::Range(range_request(request)?),
        PbRequest::RequestPut(request) => Op::Put(put_request(request)),
        PbRequest::RequestDeleteRange(request) => Op::DeleteRange(delete_request(request)),
        PbRequest::RequestTxn(request) => Op::Txn(Box::new(txn_request(request)?)),
    })
}

pub(super) fn txn_request(request: pb::TxnRequest) -> Result<TxnRequest, Status> {
    let ops = |list: Vec<pb::RequestOp>| list.into_iter().map(op).collect::<Result<Vec<_>, _>>();
    Ok(TxnRequest {
        compare: request.compare.into_iter().map(compare).collect::<Result<_, _>>()?,
        success: ops(request.success)?,
        failure: ops(request.failure)?,
    })
}

/// The answers inside a transaction carry the revision alone in their headers, as etcd's.
fn op_response(answer: OpResponse) -> pb::ResponseOp {
    let at = |revision| Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() });
    let response = match answer {
        OpResponse::Range(range) => {
            let header = at(range.revision);
            PbResponse::ResponseRange(range_response(range, header))
        }
        OpResponse::Put { revision, prev_kv } => PbResponse::ResponsePut(pb::PutResponse {
            header: at(revision),
            prev_kv: prev_kv.map(key_value),
        }),
        OpResponse::DeleteRange { revision, deleted, prev_kvs } => {
            PbResponse::ResponseDeleteRange(pb::DeleteRangeResponse {
                header: at(revision),
                deleted,
                prev_kvs: prev_kvs.into_iter().map(key_value).collect(),
            })
        }
        // The one answer that etcd gives an empty header.
        OpResponse::Txn(nested) => PbResponse::ResponseTxn(txn_response(*nested, at(0))),
    };
    pb::ResponseOp { response: Some(response) }
}

pub(super) fn txn_response(
    answer: TxnResponse,
    header: Option<pb::ResponseHeader>,
) -> pb::TxnResponse {
    pb::TxnResponse {
        header,
        succeeded: answer.succeeded,
        responses: answer.responses.into_iter().map(op_response).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_operation_is_refused_as_etcd_does() {
        let request = pb::TxnRequest {
            success: vec![pb::RequestOp { request: None }],
            ..pb::TxnRequest::default()
        };
        let error = txn_request(request).unwrap_err();
        assert_eq!(error.message(), "etcdserver: key not found");
    }

    #[test]
    fn a_sort_order_that_does_not_exist_is_refused() {
        let request = pb::RangeRequest { sort_order: 9, ..pb::RangeRequest::default() };
        let error = range_request(request).unwrap_err();
        assert_eq!(error.message(), "etcdserver: invalid sort option");
    }

    #[test]
    fn a_compare_without_a_value_compares_with_zero() {
        let made = compare(pb::Compare {
            target: pb::compare::CompareTarget::Create.into(),
            key: "a".into(),
            ..pb::Compare::default()
        });
        assert_eq!(made.unwrap().target, CompareTarget::CreateRevision(0));
    }
}
