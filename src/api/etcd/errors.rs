//! What goes wrong, as etcd's clients are told: a gRPC code and etcd's text.
//!
//! Why exact: clients match on the texts to decide whether to repeat, to reconnect or to
//! give up. The texts themselves stand in `model/refusal`; here are only those that no
//! other part of the program can cause.

use tonic::{Code, Status};

use crate::model::refusal::Refusal;
use crate::store::StoreError;

/// A refusal with its code.
pub(super) fn refused(refusal: Refusal) -> Status {
    Status::new(Code::from_i32(refusal.code() as i32), refusal.text())
}

/// The store's error as etcd would say it.
pub(super) fn status(error: StoreError) -> Status {
    match error {
        StoreError::Refused(refusal) => refused(refusal),
        StoreError::Compacted { .. } => refused(Refusal::Compacted),
        StoreError::Future { .. } => refused(Refusal::FutureRev),
        StoreError::NoLeader { .. } | StoreError::NoQuorum(_) | StoreError::NoKey { .. } => {
            refused(Refusal::NoLeader)
        }
        // It may have happened: the client must look before it repeats.
        StoreError::Unknown { .. } => refused(Refusal::Timeout),
        // etcd's word, for clients match on it, and behind it why.
        StoreError::HeldBack { reason } => {
            let timeout = refused(Refusal::Timeout);
            Status::new(timeout.code(), format!("{}: {reason}", timeout.message()))
        }
        StoreError::NoSpace { .. } => refused(Refusal::NoSpace),
        StoreError::ShuttingDown | StoreError::Fatal { .. } | StoreError::Removed => {
            refused(Refusal::Stopped)
        }
        StoreError::BadRequest { reason } => {
            Status::invalid_argument(format!("etcdserver: {reason}"))
        }
    }
}

/// A refusal as it stands in a watch's `cancel_reason`, which carries Go's text of it.
pub(super) fn cancel_reason(error: StoreError) -> String {
    let status = status(error);
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

pub(super) fn wrong_downgrade_version() -> Status {
    Status::invalid_argument("etcdserver: wrong downgrade target version format")
}

pub(super) fn invalid_downgrade_target() -> Status {
    Status::invalid_argument("etcdserver: invalid downgrade target version")
}

pub(super) fn no_downgrade_in_flight() -> Status {
    Status::failed_precondition("etcdserver: no inflight downgrade job")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_texts_are_etcds() {
        let compacted = status(StoreError::Compacted { requested: 3, compacted: 5 });
        assert_eq!(compacted.code(), Code::OutOfRange);
        assert_eq!(compacted.message(), "etcdserver: mvcc: required revision has been compacted");
        let leaderless = status(StoreError::NoLeader { reason: "x".into() });
        assert_eq!(
            (leaderless.code(), leaderless.message()),
            (Code::Unavailable, "etcdserver: no leader")
        );
    }

    #[test]
    fn a_cancelled_watch_is_told_in_gos_words() {
        assert_eq!(
            cancel_reason(Refusal::PermissionDenied.into()),
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
        );
    }
}
