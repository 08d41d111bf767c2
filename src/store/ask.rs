//! Requests on somebody's behalf: who asks, what he may, what comes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::admin_api::AlarmKind;
use super::api::StoreError;
use super::health::Health;
use super::propose::refused;
use super::shared::Shared;
use super::state::StateError;
use super::types::{Ask, Command, Reply, RequestId};
use crate::base::chain::chain;
use crate::logic::auth::Access;
use crate::logic::mvcc::MvccError;
use crate::model::auth::Caller;
use crate::model::refusal::Refusal;

impl Shared {
    pub(super) fn request_id(&self) -> RequestId {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        RequestId { origin: self.identity.member, run: self.run, sequence }
    }

    /// Has something done once.
    pub(super) async fn ask(
        self: &Arc<Self>,
        caller: &Caller,
        ask: Ask,
    ) -> Result<Reply, StoreError> {
        self.health.borrow().check()?;
        let issued_at = self.state.applied_index();
        let command = Command::Ask { id: self.request_id(), issued_at, by: caller.info(), ask };
        match self.propose(command).await? {
            Reply::Refused(refusal) => Err(refused(refusal)),
            reply => Ok(reply),
        }
    }

    /// Refuses what a standing alarm forbids to etcd's clients: all changes where a state is
    /// said to be corrupt, what adds where space is short. Reads go on, as in etcd.
    pub(super) fn check_alarms(&self, adds: bool) -> Result<(), Refusal> {
        let alarms = self.state.alarms();
        if alarms.iter().any(|alarm| alarm.kind == AlarmKind::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        if adds && alarms.iter().any(|alarm| alarm.kind == AlarmKind::NoSpace) {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    /// Refuses unless the caller may do this to the range, as far as this member knows.
    pub(super) fn check_access(
        &self,
        caller: &Caller,
        access: Access,
        key: &Bytes,
        range_end: &Bytes,
    ) -> Result<(), Refusal> {
        match caller.info() {
            Some(by) => self.state.auth().check(&by, access, key, range_end),
            None => Ok(()),
        }
    }

    pub(super) fn check_keys(
        &self,
        caller: &Caller,
        access: Access,
        keys: &[Bytes],
    ) -> Result<(), Refusal> {
        let none = Bytes::new();
        keys.iter().try_for_each(|key| self.check_access(caller, access, key, &none))
    }

    pub(super) fn check_admin(&self, caller: &Caller) -> Result<(), Refusal> {
        match caller.info() {
            Some(by) => self.state.auth().check_admin(&by),
            None => Ok(()),
        }
    }

    /// What was checked before a read must still hold after it.
    pub(super) fn check_unchanged(&self, caller: &Caller) -> Result<(), Refusal> {
        let auth = self.state.auth();
        match caller {
            Caller::User(info) if auth.is_enabled() && info.revision != auth.revision() => {
                Err(Refusal::AuthOldRevision)
            }
            // This member had not heard yet that callers are asked who they are.
            Caller::Anonymous if auth.is_enabled() => Err(Refusal::AuthOldRevision),
            _ => Ok(()),
        }
    }

    /// Turns a failed read into an answer; a failed disk stops the member.
    pub(super) fn read_failed(&self, error: MvccError<StateError>) -> StoreError {
        match error {
            MvccError::Compacted { requested, compacted } => {
                StoreError::Compacted { requested, compacted }
            }
            MvccError::Future { requested, current } => StoreError::Future { requested, current },
            MvccError::Refused(rule) => StoreError::Refused(rule),
            MvccError::View(error) => self.state_failed(&error),
        }
    }

    pub(super) fn state_failed(&self, error: &StateError) -> StoreError {
        self.state.note(error);
        self.failed(chain(error))
    }

    pub(super) fn disk_failed(&self, error: &std::io::Error) -> StoreError {
        self.failed(chain(error))
    }

    fn failed(&self, reason: String) -> StoreError {
        Health::failed(&self.health, &reason);
        StoreError::Fatal { reason }
    }
}
