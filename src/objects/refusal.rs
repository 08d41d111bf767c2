//! How the store's errors reach a client.

use crate::model::status::Status;
use crate::store::StoreError;

/// Seconds after which asking again makes sense; elections take about this long.
const RETRY_AFTER_SECONDS: u32 = 1;

/// For reads and writes.
pub(super) fn of(error: StoreError) -> Status {
    match error {
        StoreError::NoLeader { .. } | StoreError::ShuttingDown => {
            Status::unavailable(error.to_string()).retry_after(RETRY_AFTER_SECONDS)
        }
        StoreError::Unknown { .. } => Status::timeout(error.to_string()),
        StoreError::Compacted { requested, compacted } => {
            Status::expired(format!("too old resource version: {requested} ({compacted})"))
        }
        StoreError::Future { requested, current } => too_large(requested, current),
        StoreError::BadRequest { reason } => Status::failure(413, "RequestEntityTooLarge", reason),
        StoreError::Fatal { .. } => Status::internal(error),
    }
}

/// The client is ahead of the store: it saw a version that this side never had.
pub(super) fn too_large(requested: i64, current: i64) -> Status {
    let message = format!("Too large resource version: {requested}, current: {current}");
    Status::timeout(message).retry_after(RETRY_AFTER_SECONDS)
}
