//! Tokens that stand for users who gave their password.
//!
//! Why only in memory: a token is given through the log, so every member learns of it, and
//! lives on each member as long as it is used there. After a restart clients sign in again,
//! as they do with etcd's simple tokens.
//!
//! ```text
//! token:  <secret, 16 letters> . <log index of the entry that gave it>
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

use crate::base::limits::AUTH_TOKEN_IDLE;

#[derive(Debug)]
struct Token {
    user: String,
    used: Instant,
}

/// The tokens that this member knows.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    known: Mutex<HashMap<String, Token>>,
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Token>> {
        self.known.lock().expect("no holder of the tokens panics")
    }

    pub(super) fn give(&self, user: &str, secret: &str, index: u64) -> String {
        let token = format!("{secret}.{index}");
        let mut known = self.lock();
        // Giving is rare enough to look at all of them.
        known.retain(|_, token| token.used.elapsed() < AUTH_TOKEN_IDLE);
        known.insert(token.clone(), Token { user: user.to_owned(), used: Instant::now() });
        token
    }

    /// Forgets a user's tokens.
    pub(super) fn drop_user(&self, user: &str) {
        self.lock().retain(|_, token| token.user != user);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// Whose token it is; using it keeps it.
    pub(crate) fn user_of(&self, token: &str) -> Option<String> {
        let mut known = self.lock();
        let found = known.get_mut(token)?;
        if found.used.elapsed() >= AUTH_TOKEN_IDLE {
            known.remove(token);
            return None;
        }
        found.used = Instant::now();
        Some(found.user.clone())
    }
}

/// The log index that a token names.
pub(crate) fn index_of(token: &str) -> Option<u64> {
    token.rsplit_once('.')?.1.parse().ok()
}
