//! Users, roles and permissions in etcd's terms.
//!
//! Not here: the decisions (`logic/auth`), hashing of passwords (`store/`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// On whose behalf a request is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// A part of this program; nothing is checked.
    #[default]
    Internal,
    /// A client who gave no name; refused where authentication is enabled.
    Anonymous,
    /// A client whose token or certificate was checked.
    User(AuthInfo),
}

impl Caller {
    /// The caller as the log carries him; `None` is this program itself.
    pub fn info(&self) -> Option<AuthInfo> {
        match self {
            Caller::Internal => None,
            Caller::Anonymous => Some(AuthInfo::default()),
            Caller::User(info) => Some(info.clone()),
        }
    }
}

/// A user as of one revision of the authentication store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthInfo {
    /// Empty for a client who gave no name.
    pub user: String,
    /// The authentication revision at which the name was established; a request is
    /// refused if permissions changed since.
    pub revision: u64,
}

/// What a permission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PermissionKind {
    Read,
    Write,
    ReadWrite,
}

/// One permission of a role; ranges as in `model::kv`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    pub kind: PermissionKind,
    pub key: Bytes,
    pub range_end: Bytes,
}

/// Whether authentication is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthStatus {
    pub enabled: bool,
    /// Grows with every change of users, roles and permissions.
    pub auth_revision: u64,
}

/// A change of users and roles as a client asks for it. Only [`AuthChange::UserAdd`] and
/// [`AuthChange::UserChangePassword`] carry a password, which never reaches the log.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthChange {
    Enable,
    Disable,
    /// `password` is `None` for a user who comes with a certificate only.
    UserAdd {
        name: String,
        password: Option<String>,
    },
    UserDelete {
        name: String,
    },
    UserChangePassword {
        name: String,
        password: String,
    },
    UserGrantRole {
        user: String,
        role: String,
    },
    UserRevokeRole {
        user: String,
        role: String,
    },
    RoleAdd {
        name: String,
    },
    RoleDelete {
        name: String,
    },
    RoleGrantPermission {
        role: String,
        permission: Permission,
    },
    RoleRevokePermission {
        role: String,
        key: Bytes,
        range_end: Bytes,
    },
}

impl std::fmt::Debug for AuthChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Passwords must not reach a log through `{:?}`.
        f.write_str(match self {
            AuthChange::Enable => "AuthChange::Enable",
            AuthChange::Disable => "AuthChange::Disable",
            AuthChange::UserAdd { .. } => "AuthChange::UserAdd",
            AuthChange::UserDelete { .. } => "AuthChange::UserDelete",
            AuthChange::UserChangePassword { .. } => "AuthChange::UserChangePassword",
            AuthChange::UserGrantRole { .. } => "AuthChange::UserGrantRole",
            AuthChange::UserRevokeRole { .. } => "AuthChange::UserRevokeRole",
            AuthChange::RoleAdd { .. } => "AuthChange::RoleAdd",
            AuthChange::RoleDelete { .. } => "AuthChange::RoleDelete",
            AuthChange::RoleGrantPermission { .. } => "AuthChange::RoleGrantPermission",
            AuthChange::RoleRevokePermission { .. } => "AuthChange::RoleRevokePermission",
        })
    }
}
