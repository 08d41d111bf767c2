//! The administrator's password, and who may see the status document.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::door::{Door, NotLetIn, Session};
use super::guard::refused;
use crate::api::identity::PeerIdentity;
use crate::api::listener::RemoteAddress;
use crate::api::session_caller::SessionCaller;
use crate::model::status::Status;

/// The only local account so far.
pub(super) const ADMIN_USER: &str = "admin";

fn verify(password: &str, stored: &str) -> bool {
    let Ok(parsed) = PasswordHash::new(stored) else { return false };
    Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok()
}

/// Whether the password is the one whose hash is stored.
pub(super) async fn is_password(password: String, stored: String) -> bool {
    // argon2 is slow on purpose; it must not hold up the other requests.
    let checked = tokio::task::spawn_blocking(move || verify(&password, &stored)).await;
    checked.unwrap_or(false)
}

/// `user:password` of an `Authorization: Basic` header (RFC 7617).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let decoded = BASE64_STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

impl Door {
    /// Whether this is the administrator's name and password; `source` is who asks.
    pub async fn is_admin(&self, user: &str, password: &str, source: &str) -> bool {
        self.password(user, password.to_owned(), source).await.is_ok()
    }
}

/// Whether a session's user may: an administrator, or who was granted the path.
async fn session_may(door: &Door, session: &Session, path: &str) -> Result<(), Status> {
    let identity = match session.caller() {
        SessionCaller::Known(identity) => identity,
        SessionCaller::Token(token) => {
            door.token(&token).await?.ok_or_else(Status::unauthorized)?
        }
    };
    match &door.objects {
        _ if identity.is_master() => Ok(()),
        Some(objects) => objects.authorize_url(&identity, "get", path).await,
        None => Err(Status::unauthorized()),
    }
}

/// An administrator's certificate, his password (HTTP Basic), or a session.
pub(super) async fn may_see_status(
    State(door): State<Arc<Door>>,
    session: Option<Extension<Session>>,
    identity: Option<Extension<PeerIdentity>>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(Extension(session)) = session {
        return match session_may(&door, &session, request.uri().path()).await {
            Ok(()) => next.run(request).await,
            Err(status) => refused(&status),
        };
    }
    if identity.is_some_and(|Extension(identity)| identity.is_admin()) {
        return next.run(request).await;
    }
    let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"Holdfast\", charset=\"UTF-8\"")];
    let Some((user, password)) = basic(request.headers()) else {
        return (StatusCode::UNAUTHORIZED, ask, "Sign in as admin.\n").into_response();
    };
    let source = RemoteAddress::source(request.extensions());
    match door.password(&user, password, &source).await {
        Ok(_) => next.run(request).await,
        Err(NotLetIn::Locked(seconds)) => {
            let again = [(header::RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, again, "Too many failed sign-ins.\n").into_response()
        }
        Err(_) => (StatusCode::UNAUTHORIZED, ask, "Sign in as admin.\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher;

    use super::*;

    #[test]
    fn only_the_right_password_verifies() {
        let stored = Argon2::default().hash_password(b"correct horse").unwrap().to_string();
        assert!(verify("correct horse", &stored));
        assert!(!verify("battery staple", &stored));
        assert!(!verify("correct horse", "not a hash"));
    }
}
