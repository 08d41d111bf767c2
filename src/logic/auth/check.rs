//! Whether a caller may do something, at this revision of users and roles.

use bytes::Bytes;

use super::{AuthState, ROOT, User};
use crate::model::auth::{AuthInfo, Permission, PermissionKind};
use crate::model::kv::{Op, TxnRequest};
use crate::model::refusal::Refusal;

/// What is asked of a range of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

impl AuthState {
    /// Refuses unless the caller may administer.
    pub fn check_admin(&self, by: &AuthInfo) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        if by.user.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        let user = self.users.get(&by.user).ok_or(Refusal::UserNotFound)?;
        if user.roles.contains(ROOT) { Ok(()) } else { Err(Refusal::PermissionDenied) }
    }

    /// Refuses unless the caller is a user: what is asked for is nobody's in particular.
    pub fn check_known(&self, by: &AuthInfo) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        if by.user.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        if self.users.contains_key(&by.user) { Ok(()) } else { Err(Refusal::PermissionDenied) }
    }

    /// Refuses unless the caller may do this to every key of the range.
    pub fn check(
        &self,
        by: &AuthInfo,
        access: Access,
        key: &Bytes,
        range_end: &Bytes,
    ) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        if by.user.is_empty() || by.revision == 0 {
            return Err(Refusal::UserEmpty);
        }
        if by.revision < self.revision {
            return Err(Refusal::AuthOldRevision);
        }
        let user = self.users.get(&by.user).ok_or(Refusal::PermissionDenied)?;
        if user.roles.contains(ROOT) || self.covers(user, access, key, range_end) {
            return Ok(());
        }
        Err(Refusal::PermissionDenied)
    }

    /// Refuses unless the caller may do all that the transaction could do.
    pub fn check_txn(&self, by: &AuthInfo, txn: &TxnRequest) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        for compare in &txn.compare {
            self.check(by, Access::Read, &compare.key, &compare.range_end)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                Op::Range(range) => self.check(by, Access::Read, &range.key, &range.range_end)?,
                Op::Put(put) => {
                    self.check(by, Access::Write, &put.key, &Bytes::new())?;
                    if put.prev_kv {
                        self.check(by, Access::Read, &put.key, &Bytes::new())?;
                    }
                }
                Op::DeleteRange(delete) => {
                    self.check(by, Access::Write, &delete.key, &delete.range_end)?;
                    if delete.prev_kv {
                        self.check(by, Access::Read, &delete.key, &delete.range_end)?;
                    }
                }
                Op::Txn(nested) => self.check_txn(by, nested)?,
            }
        }
        Ok(())
    }

    /// Whether the user's permissions together cover the whole range.
    fn covers(&self, user: &User, access: Access, key: &Bytes, range_end: &Bytes) -> bool {
        let allows = |permission: &&Permission| match permission.kind {
            PermissionKind::ReadWrite => true,
            PermissionKind::Read => access == Access::Read,
            PermissionKind::Write => access == Access::Write,
        };
        let permissions = user.roles.iter().filter_map(|role| self.roles.get(role)).flatten();
        let mut spans: Vec<(&Bytes, Option<Vec<u8>>)> = permissions
            .filter(allows)
            .map(|permission| (&permission.key, end_of(&permission.key, &permission.range_end)))
            .collect();
        spans.sort();
        let wanted_end = end_of(key, range_end);
        let mut reached = key.to_vec();
        for (start, end) in spans {
            if start[..] > reached[..] {
                return false;
            }
            match (end, &wanted_end) {
                (None, _) => return true,
                (Some(end), Some(wanted)) if end >= *wanted => return true,
                (Some(end), _) => reached = reached.max(end),
            }
        }
        false
    }
}

/// The exclusive end of a range; `None` is beyond every key.
fn end_of(key: &Bytes, range_end: &Bytes) -> Option<Vec<u8>> {
    match &range_end[..] {
        [] => Some([&key[..], &[0]].concat()),
        [0] => None,
        end => Some(end.to_vec()),
    }
}
