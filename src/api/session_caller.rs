//! What a session of the admin page puts into a request: whose it is.
//!
//! Why apart: the page's own folder (`admin/`) checks the session, the Kubernetes API
//! (`kube/`) acts on it, and neither knows the other.

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
