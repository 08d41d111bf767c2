//! What a session of the admin page puts into a request: whose it is, and when it ends.
//!
//! Why apart: the page's own folder (`admin/`) checks the session, the Kubernetes API
//! (`kube/`) acts on it, and neither knows the other.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::objects::access::Identity;

/// In the extensions of a request with a session that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCaller {
    /// Signed in by password or certificate.
    Known(Identity),
    /// Signed in by this token; it is judged anew at each request, so that a session ends
    /// with its token.
    Token(String),
}

/// In the extensions of the same request: what goes on after its answer ends with the session.
#[derive(Clone, Debug)]
pub struct SessionEnd {
    ended: CancellationToken,
    remaining: Duration,
}

impl SessionEnd {
    /// `ended` is cancelled when the session is closed; `remaining` is its absolute end.
    pub fn new(ended: CancellationToken, remaining: Duration) -> Self {
        Self { ended, remaining }
    }

    /// Returns when the session is over.
    pub async fn over(self) {
        let _either = tokio::time::timeout(self.remaining, self.ended.cancelled()).await;
    }
}
