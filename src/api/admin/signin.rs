//! Who may see the admin page: an administrator's certificate, or the password.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::api::identity::PeerIdentity;

/// The only local account so far.
const ADMIN_USER: &str = "admin";

fn verify(password: &str, stored: &str) -> bool {
    let Ok(parsed) = PasswordHash::new(stored) else { return false };
    Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok()
}

/// `user:password` of an `Authorization: Basic` header (RFC 7617).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let decoded = BASE64_STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Whether this is the administrator's name and password.
pub async fn is_admin(backend: &super::Backend, user: &str, password: String) -> bool {
    if user != ADMIN_USER {
        return false;
    }
    let Some(stored) = backend.password_hash().await else { return false };
    // argon2 is slow on purpose; it must not hold up the other requests.
    let checked = tokio::task::spawn_blocking(move || verify(&password, &stored)).await;
    checked.unwrap_or(false)
}

pub(super) async fn require_admin(
    State(backend): State<super::Backend>,
    identity: Option<Extension<PeerIdentity>>,
    request: Request,
    next: Next,
) -> Response {
    if identity.is_some_and(|Extension(identity)| identity.is_admin()) {
        return next.run(request).await;
    }
    if let Some((user, password)) = basic(request.headers())
        && is_admin(&backend, &user, password).await
    {
        return next.run(request).await;
    }
    let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"Holdfast\", charset=\"UTF-8\"")];
    (StatusCode::UNAUTHORIZED, ask, "Sign in as admin.\n").into_response()
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
