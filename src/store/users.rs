//! Users, roles, passwords and tokens on a member.
//!
//! ```text
//!  password ─► hash here (argon2id, off the runtime) ─► log: the hash
//!  sign-in  ─► compare here, at revision r ─► log: token for the user, if still r
//! ```
//!
//! Invariants: a password never reaches the log; a comparison counts only for the
//! revision of users and roles it was made at.
//! Not here: the rules (`logic/auth`), what a token is (`state/tokens`).

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use async_trait::async_trait;

use super::admin_api::Auth;
use super::api::StoreError;
use super::disk::run_on;
use super::leases::unexpected;
use super::member::Store;
use super::runtime::random_u64;
use super::state::index_of;
use super::types::{Ask, Reply};
use crate::logic::auth::{AuthCommand, AuthState};
use crate::model::auth::{AuthChange, AuthInfo, AuthStatus, Caller, Permission};
use crate::model::refusal::Refusal;

/// How long a token may be ahead of what this member has applied.
const TOKEN_WAIT: Duration = Duration::from_secs(3);
/// How often a sign-in is tried while users and roles change under it.
const SIGN_IN_TRIES: usize = 5;
/// Letters of a token's secret part; 16 of 26 are 75 bits.
const SECRET_LETTERS: usize = 16;

impl Store {
    /// Hashes off the runtime's threads; it is slow on purpose.
    async fn password_hash(&self, password: String) -> Result<String, StoreError> {
        let shared = &self.shared;
        run_on(&*shared.disk, move || {
            Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string())
        })
        .await
        .map_err(|error| shared.disk_failed(&error))?
        .map_err(|error| StoreError::BadRequest { reason: format!("unusable password: {error}") })
    }

    async fn command(&self, change: AuthChange) -> Result<AuthCommand, StoreError> {
        Ok(match change {
            AuthChange::Enable => AuthCommand::Enable,
            AuthChange::Disable => AuthCommand::Disable,
            AuthChange::UserAdd { name, password } => {
                let password_hash = match password {
                    Some(password) => Some(self.password_hash(password).await?),
                    None => None,
                };
                AuthCommand::UserAdd { name, password_hash }
            }
            AuthChange::UserDelete { name } => AuthCommand::UserDelete { name },
            AuthChange::UserChangePassword { name, password } => {
                let password_hash = self.password_hash(password).await?;
                AuthCommand::UserChangePassword { name, password_hash }
            }
            AuthChange::UserGrantRole { user, role } => AuthCommand::UserGrantRole { user, role },
            AuthChange::UserRevokeRole { user, role } => AuthCommand::UserRevokeRole { user, role },
            AuthChange::RoleAdd { name } => AuthCommand::RoleAdd { name },
            AuthChange::RoleDelete { name } => AuthCommand::RoleDelete { name },
            AuthChange::RoleGrantPermission { role, permission } => {
                AuthCommand::RoleGrantPermission { role, permission }
            }
            AuthChange::RoleRevokePermission { role, key, range_end } => {
                AuthCommand::RoleRevokePermission { role, key, range_end }
            }
        })
    }

    /// Users and roles, when all of them may be shown.
    async fn settled_auth(&self) -> Result<Arc<AuthState>, StoreError> {
        let auth = self.shared.state.auth();
        self.shared.all_shown().await?;
        Ok(auth)
    }

    async fn sign_in(&self, name: &str, password: &str) -> Result<String, StoreError> {
        let shared = &self.shared;
        shared.barrier().await?;
        let auth = shared.state.auth();
        if !auth.is_enabled() {
            return Err(Refusal::AuthNotEnabled.into());
        }
        let stored = auth.user(name).and_then(|user| user.password_hash.clone());
        let Some(stored) = stored else { return Err(Refusal::AuthFailed.into()) };
        let given = password.to_owned();
        let right = run_on(&*shared.disk, move || {
            PasswordHash::new(&stored).is_ok_and(|stored| {
                Argon2::default().verify_password(given.as_bytes(), &stored).is_ok()
            })
        })
        .await
        .map_err(|error| shared.disk_failed(&error))?;
        if !right {
            return Err(Refusal::AuthFailed.into());
        }
        let (user, revision) = (name.to_owned(), auth.revision());
        let ask = Ask::Authenticate { user, revision, secret: secret() };
        match shared.ask(&Caller::Internal, ask).await? {
            Reply::Token(token) => Ok(token),
            other => Err(unexpected(&other)),
        }
    }
}

fn secret() -> String {
    let letter = || char::from(b'a' + u8::try_from(random_u64() % 26).unwrap_or(0));
    std::iter::repeat_with(letter).take(SECRET_LETTERS).collect()
}

#[async_trait]
impl Auth for Store {
    async fn auth_status(&self, caller: &Caller) -> Result<AuthStatus, StoreError> {
        self.shared.barrier().await?;
        self.shared.check_admin(caller)?;
        Ok(self.settled_auth().await?.status())
    }

    fn auth_enabled(&self) -> bool {
        self.shared.state.auth().is_enabled()
    }

    async fn auth_change(&self, caller: &Caller, change: AuthChange) -> Result<(), StoreError> {
        // Refused here already, so that nobody has passwords hashed for nothing.
        self.shared.check_admin(caller)?;
        let command = self.command(change).await?;
        match self.shared.ask(caller, Ask::Auth(command)).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn authenticate(&self, name: &str, password: &str) -> Result<String, StoreError> {
        for _ in 1..SIGN_IN_TRIES {
            match self.sign_in(name, password).await {
                Err(StoreError::Refused(Refusal::AuthOldRevision)) => {}
                other => return other,
            }
        }
        self.sign_in(name, password).await
    }

    async fn caller_of_token(&self, token: &str) -> Result<Caller, StoreError> {
        let state = &self.shared.state;
        if !state.auth().is_enabled() {
            return Ok(Caller::Anonymous);
        }
        let mut user = state.tokens.user_of(token);
        if user.is_none()
            && let Some(index) = index_of(token)
        {
            let mut progress = state.progress();
            let applied = progress.wait_for(|progress| progress.applied >= index);
            if tokio::time::timeout(TOKEN_WAIT, applied).await.is_ok() {
                user = state.tokens.user_of(token);
            }
        }
        let user = user.ok_or(Refusal::InvalidAuthToken)?;
        Ok(Caller::User(AuthInfo { user, revision: state.auth().revision() }))
    }

    fn caller_of_certificate(&self, common_name: &str) -> Caller {
        let auth = self.shared.state.auth();
        if !auth.is_enabled() || common_name.is_empty() {
            return Caller::Anonymous;
        }
        // A name that is no user's is refused by its permissions, as in etcd.
        Caller::User(AuthInfo { user: common_name.to_owned(), revision: auth.revision() })
    }

    async fn user(&self, caller: &Caller, name: &str) -> Result<Vec<String>, StoreError> {
        self.shared.barrier().await?;
        let own = matches!(caller, Caller::User(info) if info.user == name);
        if !own {
            self.shared.check_admin(caller)?;
        }
        let auth = self.settled_auth().await?;
        let user = auth.user(name).ok_or(Refusal::UserNotFound)?;
        Ok(user.roles.iter().cloned().collect())
    }

    async fn users(&self, caller: &Caller) -> Result<Vec<String>, StoreError> {
        self.shared.barrier().await?;
        self.shared.check_admin(caller)?;
        Ok(self.settled_auth().await?.users().cloned().collect())
    }

    async fn role(&self, caller: &Caller, name: &str) -> Result<Vec<Permission>, StoreError> {
        self.shared.barrier().await?;
        let auth = self.settled_auth().await?;
        let own = caller
            .info()
            .and_then(|by| auth.user(&by.user).map(|user| user.roles.contains(name)))
            .unwrap_or(false);
        if !own {
            self.shared.check_admin(caller)?;
        }
        Ok(auth.role(name)?)
    }

    async fn roles(&self, caller: &Caller) -> Result<Vec<String>, StoreError> {
        self.shared.barrier().await?;
        self.shared.check_admin(caller)?;
        Ok(self.settled_auth().await?.roles().cloned().collect())
    }

    fn check_admin(&self, caller: &Caller) -> Result<(), StoreError> {
        Ok(self.shared.check_admin(caller)?)
    }

    fn check_known(&self, caller: &Caller) -> Result<(), StoreError> {
        match caller.info() {
            Some(by) => Ok(self.shared.state.auth().check_known(&by)?),
            None => Ok(()),
        }
    }

    fn auth_info(&self, caller: &Caller) -> Option<AuthInfo> {
        caller.info().filter(|info| !info.user.is_empty())
    }
}
