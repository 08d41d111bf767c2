//! Applies what is asked besides transactions: leases, users, alarms.
//!
//! Invariants: as in `apply`; the end of a lease and of all its keys is one revision.

use std::sync::Arc;

use bytes::Bytes;

use super::apply::{Effects, LeaseChange};
use super::reader::Newest;
use super::store::{Inner, StateStore};
use super::{StateError, access};
use crate::logic::auth::{Access, AuthCommand, AuthState};
use crate::logic::lease::LeaseMark;
use crate::logic::mvcc::MvccView;
use crate::model::auth::AuthInfo;
use crate::model::kv::{Event, EventKind, KeyValue, Revision};
use crate::model::lease::LeaseId;
use crate::model::refusal::Refusal as Rule;
use crate::store::admin_api::Alarm;
use crate::store::types::{Ask, LogId, Refusal, Reply, RequestId};

impl StateStore {
    pub(super) fn apply_ask(
        &self,
        log_id: LogId,
        id: RequestId,
        issued_at: u64,
        by: Option<&AuthInfo>,
        ask: &Ask,
    ) -> Result<Reply, StateError> {
        let (recalled, revisions) = {
            let inner = self.read();
            (inner.requests.recall(&id, issued_at), inner.revisions())
        };
        if let Some(reply) = recalled {
            self.advance(log_id);
            return Ok(reply);
        }
        let next = revisions.current + 1;
        let (reply, effects) = match self.decide(log_id, by, ask, next)? {
            Ok(decided) => decided,
            Err(rule) => (Reply::Refused(Refusal::Rule(rule)), Effects::default()),
        };
        self.commit_txn(log_id, id, next, &reply, effects);
        Ok(reply)
    }

    /// What comes of it; nothing is changed yet but tokens, which are not kept.
    fn decide(
        &self,
        log_id: LogId,
        by: Option<&AuthInfo>,
        ask: &Ask,
        next: Revision,
    ) -> Result<Result<(Reply, Effects), Rule>, StateError> {
        match ask {
            Ask::LeaseGrant { id, ttl_s } => {
                Ok(self.read().leases.grant(*id, *ttl_s).map(|(granted, record)| {
                    let leases = vec![(*id, LeaseChange::Granted(record))];
                    (Reply::Granted(granted), Effects { leases, ..Effects::default() })
                }))
            }
            Ask::LeaseRevoke { id } => {
                if self.lease(*id).is_none() {
                    return Ok(Err(Rule::LeaseNotFound));
                }
                let keys = self.lease_keys(*id)?;
                if let Err(rule) = self.check_lease_keys(by, &keys) {
                    return Ok(Err(rule));
                }
                let effects = self.end_of(*id, &keys, next)?;
                let revision = if effects.events.is_empty() { next - 1 } else { next };
                Ok(Ok((Reply::Revoked(revision), effects)))
            }
            Ask::Auth(command) => Ok(self
                .change_auth(by, command)
                .map(|auth| (Reply::Done, Effects { auth: Some(auth), ..Effects::default() }))),
            Ask::Authenticate { user, revision, secret } => {
                let signed = self.sign_in(log_id, user, *revision, secret);
                Ok(signed.map(|reply| (reply, Effects::default())))
            }
            Ask::Alarm { alarm, on } => Ok(Ok(self.set_alarm(*alarm, *on))),
        }
    }

    /// Ends the leases whose time the leader of `term` found to be over.
    pub(super) fn apply_lease_ends(
        &self,
        log_id: LogId,
        term: u64,
        ids: &[LeaseId],
    ) -> Result<Reply, StateError> {
        if log_id.committed_leader_id().term == term {
            for id in ids {
                if self.lease(*id).is_some() {
                    let next = self.read().revisions().current + 1;
                    let effects = self.end_of(*id, &self.lease_keys(*id)?, next)?;
                    self.commit_effects(next, effects);
                }
            }
        }
        self.advance(log_id);
        Ok(Reply::Done)
    }

    pub(super) fn apply_lease_marks(&self, log_id: LogId, term: u64, marks: &[LeaseMark]) -> Reply {
        if log_id.committed_leader_id().term == term {
            for mark in marks {
                let record = self.read().leases.mark(mark);
                if let Some(record) = record {
                    let leases = vec![(mark.id, LeaseChange::Marked(record))];
                    self.commit_effects(0, Effects { leases, ..Effects::default() });
                }
            }
        }
        self.advance(log_id);
        Reply::Done
    }

    fn end_of(&self, id: LeaseId, keys: &[Bytes], next: Revision) -> Result<Effects, StateError> {
        let events = self.deletions(keys, next)?;
        Ok(Effects { events, leases: vec![(id, LeaseChange::Ended)], ..Effects::default() })
    }

    /// The keys attached to a lease, in order; blocks on the disk.
    pub(crate) fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, StateError> {
        let (overlay, view) = {
            let inner = self.read();
            (inner.attached_overlay(id), inner.view.clone())
        };
        let mut keys = std::collections::BTreeSet::new();
        let end = id.checked_add(1);
        let rows = match end {
            Some(end) => view.attached.range((id, &[][..])..(end, &[][..])),
            None => view.attached.range((id, &[][..])..),
        };
        for row in rows.map_err(access("read"))? {
            let (row, _) = row.map_err(access("read"))?;
            keys.insert(Bytes::copy_from_slice(row.value().1));
        }
        for (key, attached) in overlay {
            if attached {
                keys.insert(key);
            } else {
                keys.remove(&key);
            }
        }
        Ok(keys.into_iter().collect())
    }

    fn deletions(&self, keys: &[Bytes], next: Revision) -> Result<Vec<Event>, StateError> {
        let mut events = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(old) = Newest(self).get(key)? else { continue };
            let kv = KeyValue { key: key.clone(), mod_revision: next, ..KeyValue::default() };
            events.push(Event { kind: EventKind::Delete, kv, prev_kv: Some(old) });
        }
        Ok(events)
    }

    /// A lease may be ended, or a key attached to it, only by one who may write all its keys.
    pub(super) fn check_lease_keys(
        &self,
        by: Option<&AuthInfo>,
        keys: &[Bytes],
    ) -> Result<(), Rule> {
        let (Some(by), auth) = (by, self.auth()) else { return Ok(()) };
        if auth.check_admin(by).is_ok() {
            return Ok(());
        }
        keys.iter().try_for_each(|key| auth.check(by, Access::Write, key, &Bytes::new()))
    }

    fn change_auth(
        &self,
        by: Option<&AuthInfo>,
        command: &AuthCommand,
    ) -> Result<Arc<AuthState>, Rule> {
        let before = self.auth();
        if let Some(by) = by {
            before.check_admin(by)?;
        }
        let mut auth = AuthState::clone(&before);
        auth.apply(command)?;
        match command {
            AuthCommand::Disable => self.tokens.clear(),
            AuthCommand::UserDelete { name } | AuthCommand::UserChangePassword { name, .. } => {
                self.tokens.drop_user(name);
            }
            AuthCommand::Enable
            | AuthCommand::UserAdd { .. }
            | AuthCommand::UserGrantRole { .. }
            | AuthCommand::UserRevokeRole { .. }
            | AuthCommand::RoleAdd { .. }
            | AuthCommand::RoleDelete { .. }
            | AuthCommand::RoleGrantPermission { .. }
            | AuthCommand::RoleRevokePermission { .. } => {}
        }
        Ok(Arc::new(auth))
    }

    fn sign_in(
        &self,
        log_id: LogId,
        user: &str,
        revision: u64,
        secret: &str,
    ) -> Result<Reply, Rule> {
        let auth = self.auth();
        if !auth.is_enabled() {
            return Err(Rule::AuthNotEnabled);
        }
        // The password was checked against what stood at that revision.
        if auth.revision() != revision {
            return Err(Rule::AuthOldRevision);
        }
        if auth.user(user).is_none() {
            return Err(Rule::AuthFailed);
        }
        Ok(Reply::Token(self.tokens.give(user, secret, log_id.index)))
    }

    fn set_alarm(&self, alarm: Alarm, on: bool) -> (Reply, Effects) {
        let mut alarms = self.alarms();
        let changed = if on { alarms.insert(alarm) } else { alarms.remove(&alarm) };
        // As in etcd, raising an alarm that stands answers it too.
        let answer = if changed || on { vec![alarm] } else { Vec::new() };
        let alarms = changed.then_some(alarms);
        (Reply::Alarms(answer), Effects { alarms, ..Effects::default() })
    }
}

impl Inner {
    /// What the layers say of a lease's keys.
    fn attached_overlay(&self, id: LeaseId) -> Vec<(Bytes, bool)> {
        let layers = self.frozen.as_deref().into_iter().chain(std::iter::once(&self.active));
        let from = (id, Bytes::new());
        let mut overlay = Vec::new();
        for layer in layers {
            let rows = layer.lease_keys.range(from.clone()..).take_while(|((of, _), _)| *of == id);
            overlay.extend(rows.map(|((_, key), attached)| (key.clone(), *attached)));
        }
        overlay
    }
}
