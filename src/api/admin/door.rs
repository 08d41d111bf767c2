//! The admin page's door: who signs in, how often he may try, which sessions there are.
//!
//! ```text
//! password | token | certificate ─► attempts ─► judged ─► new id in a cookie ─► Session
//! cookie ─► SHA-256 ─► Session ─► still worth it? ─► SessionCaller
//! ```
//! Why per node and in memory: see [`crate::logic::sessions`]. A session by password ends
//! when the password changes, one by certificate holds only on connections with that
//! certificate, one by token is worth what the token is.
//! Invariants: an id is made here, at each sign-in anew, from 256 random bits; at most
//! two passwords are hashed at a time.
//! Not here: cookies and headers (`guard`), the routes (`session`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::signin::{ADMIN_USER, is_password};
use super::{AdminBackend, Place};
use crate::api::identity::PeerIdentity;
use crate::api::session_caller::{SessionCaller, SessionEnd};
use crate::base::limits::{
    PAGE_SESSION_ABSOLUTE, PAGE_SESSION_IDLE, PAGE_SESSIONS_PER_USER, SIGN_IN_FAILURES_PER_ACCOUNT,
    SIGN_IN_FAILURES_PER_SOURCE,
};
use crate::logic::sessions::{Digest, SessionLimits, Sessions};
use crate::logic::sign_in_attempts::{Attempts, Key};
use crate::model::status::Status;
use crate::objects::Objects;
use crate::objects::access::Identity;

/// Passwords that are hashed at a time: each takes some 20 MB and a core.
const HASHED_AT_ONCE: usize = 2;
const MASTERS: &str = "system:masters";

/// What somebody showed to sign in.
#[derive(Clone)]
pub(super) enum Shown {
    Password { user: String, password: String },
    Token(String),
    Certificate(PeerIdentity),
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Password { .. } => "Password",
            Self::Token(_) => "Token",
            Self::Certificate(_) => "Certificate",
        })
    }
}

/// What a session goes back to.
#[derive(Clone)]
enum Proof {
    /// The hash that the password matched.
    Password(String),
    Token(String),
    /// The fingerprint of the certificate's key.
    Certificate(String),
}

/// A session that was found to hold.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) identity: Identity,
    proof: Proof,
    /// Cancelled when the session ends: what streams to it ends too.
    pub(super) ended: CancellationToken,
    pub(super) remaining: Duration,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("user", &self.identity.user).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn method(&self) -> &'static str {
        match self.proof {
            Proof::Password(_) => "password",
            Proof::Token(_) => "token",
            Proof::Certificate(_) => "certificate",
        }
    }

    pub(super) fn end(&self) -> SessionEnd {
        SessionEnd::new(self.ended.clone(), self.remaining)
    }

    pub(super) fn caller(&self) -> SessionCaller {
        match &self.proof {
            Proof::Token(token) => SessionCaller::Token(token.clone()),
            _ => SessionCaller::Known(self.identity.clone()),
        }
    }
}

/// Why nobody was let in.
#[derive(Debug)]
pub(super) enum NotLetIn {
    Wrong,
    /// Too many failures; to be tried again after so many seconds.
    Locked(u64),
    /// Nobody can judge it now.
    Unanswered(Status),
}

/// One node's door.
#[derive(Debug)]
pub struct Door {
    pub(super) backend: Arc<dyn AdminBackend>,
    pub(super) objects: Option<Arc<Objects>>,
    pub(super) place: Place,
    sessions: Mutex<Sessions<Session>>,
    attempts: Mutex<Attempts>,
    hashing: Semaphore,
    started: Instant,
}

fn digest(id: &str) -> Digest {
    Sha256::digest(id.as_bytes()).into()
}

/// For whom tries are counted.
fn keys(source: &str, account: Option<&str>) -> Vec<Key> {
    let mut keys =
        vec![Key { name: format!("source {source}"), bound: SIGN_IN_FAILURES_PER_SOURCE }];
    if let Some(account) = account {
        let name = format!("account {account}");
        keys.push(Key { name, bound: SIGN_IN_FAILURES_PER_ACCOUNT });
    }
    keys
}

impl Door {
    /// Without objects (on a node that was removed) there are no tokens and no records.
    pub fn new(
        backend: Arc<dyn AdminBackend>,
        objects: Option<Arc<Objects>>,
        place: Place,
    ) -> Self {
        let limits = SessionLimits {
            idle_ms: PAGE_SESSION_IDLE.as_millis() as u64,
            absolute_ms: PAGE_SESSION_ABSOLUTE.as_millis() as u64,
            per_owner: PAGE_SESSIONS_PER_USER,
        };
        Self {
            backend,
            objects,
            place,
            sessions: Mutex::new(Sessions::new(limits)),
            attempts: Mutex::default(),
            hashing: Semaphore::new(HASHED_AT_ONCE),
            started: Instant::now(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn begin(&self, keys: &[Key]) -> Result<(), NotLetIn> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.begin(keys, self.now_ms()).map_err(|wait| NotLetIn::Locked(wait.div_ceil(1_000)))
    }

    fn succeeded(&self, keys: &[Key]) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).succeeded(keys);
    }

    /// The stored hash, if name and password are the administrator's. Counts the try.
    pub(super) async fn password(
        &self,
        user: &str,
        password: String,
        source: &str,
    ) -> Result<String, NotLetIn> {
        let keys = keys(source, Some(user));
        self.begin(&keys)?;
        if user != ADMIN_USER {
            return Err(NotLetIn::Wrong);
        }
        let stored = self.backend.password_hash().await.ok_or(NotLetIn::Wrong)?;
        let Ok(_place) = self.hashing.acquire().await else { return Err(NotLetIn::Wrong) };
        if !is_password(password, stored.clone()).await {
            return Err(NotLetIn::Wrong);
        }
        self.succeeded(&keys);
        Ok(stored)
    }

    /// Whose token it is; `None` if it is worthless.
    pub(super) async fn token(&self, token: &str) -> Result<Option<Identity>, Status> {
        let Some(objects) = &self.objects else { return Ok(None) };
        let found = objects.authenticate(token, &[]).await?;
        Ok(found.map(|found| found.identity.authenticated()))
    }

    async fn judge(&self, shown: Shown, source: &str) -> Result<(Identity, Proof), NotLetIn> {
        match shown {
            Shown::Password { user, password } => {
                let stored = self.password(&user, password, source).await?;
                let identity = Identity::new(&user, &[MASTERS]).authenticated();
                Ok((identity, Proof::Password(stored)))
            }
            Shown::Token(token) => {
                let keys = keys(source, None);
                self.begin(&keys)?;
                let found = self.token(&token).await.map_err(NotLetIn::Unanswered)?;
                let identity = found.ok_or(NotLetIn::Wrong)?;
                self.succeeded(&keys);
                Ok((identity, Proof::Token(token)))
            }
            // The handshake has proved it; the cluster's own machines have no use for a page.
            Shown::Certificate(peer) if !peer.is_node() && !peer.is_etcd_client() => {
                let identity =
                    Identity { user: peer.user, groups: peer.groups, ..Identity::default() };
                Ok((identity.authenticated(), Proof::Certificate(peer.key_fingerprint)))
            }
            Shown::Certificate(_) => Err(NotLetIn::Wrong),
        }
    }

    /// Lets in whoever shows what is right; returns the id for the cookie.
    pub(super) async fn sign_in(
        &self,
        shown: Shown,
        source: &str,
    ) -> Result<(String, Session), NotLetIn> {
        let (identity, proof) = self.judge(shown, source).await?;
        let id = BASE64_URL_SAFE_NO_PAD.encode(crate::sys::fresh::random_bytes::<32>());
        let session = Session {
            identity,
            proof,
            ended: CancellationToken::new(),
            remaining: PAGE_SESSION_ABSOLUTE,
        };
        let now = self.now_ms();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = sessions.expired(now);
        gone.extend(sessions.open(digest(&id), &session.identity.user, session.clone(), now));
        gone.iter().for_each(|session| session.ended.cancel());
        Ok((id, session))
    }

    /// The session of a cookie, if it holds on this connection.
    pub(super) async fn find(
        &self,
        id: &str,
        peer: Option<&PeerIdentity>,
        used: bool,
    ) -> Option<Session> {
        let (digest, now) = (digest(id), self.now_ms());
        let session = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.expired(now).iter().for_each(|session| session.ended.cancel());
            let mut session = sessions.find(&digest, now, used)?.clone();
            session.remaining = Duration::from_millis(sessions.remaining_ms(&digest, now));
            session
        };
        let holds = match &session.proof {
            Proof::Token(_) => true,
            Proof::Password(hash) => self.backend.password_hash().await.as_ref() == Some(hash),
            Proof::Certificate(key) => peer.is_some_and(|peer| peer.key_fingerprint == *key),
        };
        if !holds {
            // Not where only the connection is another's: that must not end the owner's.
            if matches!(session.proof, Proof::Password(_)) {
                self.close(id);
            }
            return None;
        }
        Some(session)
    }

    /// Ends a session; what streams to it ends with it.
    pub(super) fn close(&self, id: &str) -> Option<Session> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = sessions.close(&digest(id));
        closed.iter().for_each(|session| session.ended.cancel());
        closed
    }
}
