//! How the store's errors reach a client.

use crate::model::refusal::Refusal;
use crate::model::status::Status;
use crate::store::StoreError;

/// Seconds after which asking again makes sense; elections take about this long.
const RETRY_AFTER_SECONDS: u32 = 1;
/// The same while people must start nodes first.
const QUORUM_RETRY_SECONDS: u32 = 5;

/// For reads and writes.
pub(super) fn of(error: StoreError) -> Status {
    match error {
        StoreError::NoQuorum(_) | StoreError::HeldBack { .. } => {
            Status::unavailable(error.to_string()).retry_after(QUORUM_RETRY_SECONDS)
        }
        // Another control node answers in the place of one that was removed.
        StoreError::NoLeader { .. }
        | StoreError::NoKey { .. }
        | StoreError::ShuttingDown
        | StoreError::Removed => {
            Status::unavailable(error.to_string()).retry_after(RETRY_AFTER_SECONDS)
        }
        StoreError::Unknown { .. } => Status::timeout(error.to_string()),
        StoreError::Compacted { requested, compacted } => {
            Status::expired(format!("too old resource version: {requested} ({compacted})"))
        }
        StoreError::Future { requested, current } => too_large(requested, current),
        StoreError::Refused(Refusal::RequestTooLarge | Refusal::TooManyOps) => {
            Status::failure(413, "RequestEntityTooLarge", error.to_string())
        }
        StoreError::Refused(_) => Status::bad_request(error.to_string()),
        StoreError::BadRequest { reason } => Status::bad_request(reason),
        StoreError::NoSpace { .. } => {
            Status::failure(507, "InsufficientStorage", error.to_string())
        }
        StoreError::Fatal { .. } => Status::internal(error),
    }
}

/// The client is ahead of the store: it saw a version that this side never had.
pub(super) fn too_large(requested: i64, current: i64) -> Status {
    let message = format!("Too large resource version: {requested}, current: {current}");
    Status::timeout(message).retry_after(RETRY_AFTER_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::model::refusal::Refusal;
    use crate::store::{QuorumLoss, StoreError};

    #[test]
    fn every_store_error_has_its_code() {
        let reason = || "why".to_owned();
        let loss = QuorumLoss {
            answering: vec!["a1".into()],
            silent: vec!["b1".into(), "c1".into()],
            missing: 1,
        };
        for (error, code, name, retry) in [
            (StoreError::NoLeader { reason: reason() }, 503, "ServiceUnavailable", Some(1)),
            (StoreError::NoKey { reason: reason() }, 503, "ServiceUnavailable", Some(1)),
            (StoreError::NoQuorum(loss), 503, "ServiceUnavailable", Some(5)),
            (StoreError::ShuttingDown, 503, "ServiceUnavailable", Some(1)),
            (StoreError::Removed, 503, "ServiceUnavailable", Some(1)),
            (StoreError::Unknown { reason: reason() }, 504, "Timeout", None),
            (StoreError::Compacted { requested: 3, compacted: 7 }, 410, "Expired", None),
            (StoreError::Future { requested: 9, current: 7 }, 504, "Timeout", Some(1)),
            (StoreError::Refused(Refusal::RequestTooLarge), 413, "RequestEntityTooLarge", None),
            (StoreError::Refused(Refusal::EmptyKey), 400, "BadRequest", None),
            (StoreError::BadRequest { reason: reason() }, 400, "BadRequest", None),
            (StoreError::HeldBack { reason: reason() }, 503, "ServiceUnavailable", Some(5)),
            (StoreError::NoSpace { reason: reason() }, 507, "InsufficientStorage", None),
            (StoreError::Fatal { reason: reason() }, 500, "InternalError", None),
        ] {
            let status = of(error);
            let seconds = status.details.as_ref().and_then(|details| details.retry_after_seconds);
            assert_eq!((status.code, status.reason.as_str(), seconds), (code, name, retry));
        }
    }
}
