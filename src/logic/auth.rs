//! Who may do what: etcd's users, roles and permissions, changed through the log only.
//!
//! Why pure: every member must refuse the same requests at the same place of the log.
//! Source: etcd `server/auth/store.go`, `server/etcdserver/apply/apply_auth.go`.
//!
//! Invariants:
//! - The revision grows with every change but enabling (as in etcd), so a request that was
//!   allowed under an older one is refused rather than judged by what was.
//! - While authentication is enabled there is a user `root` with the role `root`.
//!
//! Not here: passwords' hashing and tokens (`store/`).

mod check;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
pub use check::Access;
use serde::{Deserialize, Serialize};

use crate::model::auth::{AuthStatus, Permission, PermissionKind};
use crate::model::refusal::Refusal;

/// The user who must exist, and the role that may do everything.
pub const ROOT: &str = "root";

/// One user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// PHC string; `None` for a user who comes with a certificate only.
    pub password_hash: Option<String>,
    pub roles: BTreeSet<String>,
}

/// A change of users and roles as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthCommand {
    Enable,
    Disable,
    UserAdd { name: String, password_hash: Option<String> },
    UserDelete { name: String },
    UserChangePassword { name: String, password_hash: String },
    UserGrantRole { user: String, role: String },
    UserRevokeRole { user: String, role: String },
    RoleAdd { name: String },
    RoleDelete { name: String },
    RoleGrantPermission { role: String, permission: Permission },
    RoleRevokePermission { role: String, key: Bytes, range_end: Bytes },
}

/// All users and roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthState {
    enabled: bool,
    revision: u64,
    users: BTreeMap<String, User>,
    /// Permissions in order of their keys.
    roles: BTreeMap<String, Vec<Permission>>,
}

impl Default for AuthState {
    fn default() -> Self {
        Self { enabled: false, revision: 1, users: BTreeMap::new(), roles: BTreeMap::new() }
    }
}

impl AuthState {
    pub fn status(&self) -> AuthStatus {
        AuthStatus { enabled: self.enabled, auth_revision: self.revision }
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    pub fn users(&self) -> impl Iterator<Item = &String> {
        self.users.keys()
    }

    pub fn roles(&self) -> impl Iterator<Item = &String> {
        self.roles.keys()
    }

    /// The permissions of a role; `root` has all, as etcd shows it.
    pub fn role(&self, name: &str) -> Result<Vec<Permission>, Refusal> {
        let permissions = self.roles.get(name).ok_or(Refusal::RoleNotFound)?;
        if name == ROOT {
            let key = Bytes::new();
            let range_end = Bytes::from_static(&[0]);
            return Ok(vec![Permission { kind: PermissionKind::ReadWrite, key, range_end }]);
        }
        Ok(permissions.clone())
    }

    /// Makes one change; a refused one changes nothing.
    pub fn apply(&mut self, command: &AuthCommand) -> Result<(), Refusal> {
        let changed = match command {
            AuthCommand::Enable => return self.enable(),
            AuthCommand::Disable => std::mem::replace(&mut self.enabled, false),
            AuthCommand::UserAdd { name, password_hash } => {
                self.user_add(name, password_hash.clone())?
            }
            AuthCommand::UserDelete { name } => {
                self.keep_root(name == ROOT)?;
                self.users.remove(name).map(|_| true).ok_or(Refusal::UserNotFound)?
            }
            AuthCommand::UserChangePassword { name, password_hash } => {
                let user = self.users.get_mut(name).ok_or(Refusal::UserNotFound)?;
                if user.password_hash.is_some() {
                    user.password_hash = Some(password_hash.clone());
                }
                true
            }
            AuthCommand::UserGrantRole { user, role } => {
                let known = role == ROOT || self.roles.contains_key(role);
                let user = self.users.get_mut(user).ok_or(Refusal::UserNotFound)?;
                if !known {
                    return Err(Refusal::RoleNotFound);
                }
                user.roles.insert(role.clone())
            }
            AuthCommand::UserRevokeRole { user, role } => {
                self.keep_root(user == ROOT && role == ROOT)?;
                let user = self.users.get_mut(user).ok_or(Refusal::UserNotFound)?;
                if !user.roles.remove(role) {
                    return Err(Refusal::RoleNotGranted);
                }
                true
            }
            AuthCommand::RoleAdd { name } => self.role_add(name)?,
            AuthCommand::RoleDelete { name } => self.role_delete(name)?,
            AuthCommand::RoleGrantPermission { role, permission } => {
                self.grant(role, permission)?
            }
            AuthCommand::RoleRevokePermission { role, key, range_end } => {
                let permissions = self.roles.get_mut(role).ok_or(Refusal::RoleNotFound)?;
                let before = permissions.len();
                permissions.retain(|known| known.key != key || known.range_end != range_end);
                if permissions.len() == before {
                    return Err(Refusal::PermissionNotGranted);
                }
                true
            }
        };
        self.revision += u64::from(changed);
        Ok(())
    }

    fn enable(&mut self) -> Result<(), Refusal> {
        let root = self.users.get(ROOT).ok_or(Refusal::RootUserNotExist)?;
        if !root.roles.contains(ROOT) {
            return Err(Refusal::RootRoleNotExist);
        }
        self.enabled = true;
        Ok(())
    }

    fn keep_root(&self, touched: bool) -> Result<(), Refusal> {
        if self.enabled && touched { Err(Refusal::InvalidAuthMgmt) } else { Ok(()) }
    }

    fn user_add(&mut self, name: &str, password_hash: Option<String>) -> Result<bool, Refusal> {
        if name.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        if self.users.contains_key(name) {
            return Err(Refusal::UserAlreadyExists);
        }
        self.users.insert(name.to_owned(), User { password_hash, roles: BTreeSet::new() });
        Ok(true)
    }

    fn role_add(&mut self, name: &str) -> Result<bool, Refusal> {
        if name.is_empty() {
            return Err(Refusal::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(Refusal::RoleAlreadyExists);
        }
        self.roles.insert(name.to_owned(), Vec::new());
        Ok(true)
    }

    fn role_delete(&mut self, name: &str) -> Result<bool, Refusal> {
        self.keep_root(name == ROOT)?;
        self.roles.remove(name).ok_or(Refusal::RoleNotFound)?;
        for user in self.users.values_mut() {
            user.roles.remove(name);
        }
        Ok(true)
    }

    fn grant(&mut self, role: &str, permission: &Permission) -> Result<bool, Refusal> {
        let permissions = self.roles.get_mut(role).ok_or(Refusal::RoleNotFound)?;
        let same = |known: &&mut Permission| {
            known.key == permission.key && known.range_end == permission.range_end
        };
        match permissions.iter_mut().find(same) {
            Some(known) => known.kind = permission.kind,
            None => {
                permissions.push(permission.clone());
                permissions.sort_by(|a, b| a.key.cmp(&b.key));
            }
        }
        Ok(true)
    }
}
