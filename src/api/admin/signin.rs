//! Who may see the admin page: an administrator's certificate, or the password.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::api::identity::PeerIdentity;

/// Where the store keeps the administrator's argon2 hash (PHC string format).
pub const ADMIN_PASSWORD_KEY: &str = "/holdfast/admin/password";

/// The only local account so far.
const ADMIN_USER: &str = "admin";

/// The PHC string to store for a password; salted, so two calls differ.
pub fn hash_password(password: &str) -> Result<String, String> {
    let hashed = Argon2::default().hash_password(password.as_bytes());
    hashed.map(|hash| hash.to_string()).map_err(|error| error.to_string())
}

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
        && user == ADMIN_USER
        && let Some(stored) = backend.password_hash().await
    {
        // argon2 is slow on purpose; it must not hold up the other requests.
        let checked = tokio::task::spawn_blocking(move || verify(&password, &stored)).await;
        if checked.unwrap_or(false) {
            return next.run(request).await;
        }
    }
    let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"Holdfast\", charset=\"UTF-8\"")];
    (StatusCode::UNAUTHORIZED, ask, "Sign in as admin.\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_verifies() {
        let stored = hash_password("correct horse").unwrap();
        assert!(verify("correct horse", &stored));
        assert!(!verify("battery staple", &stored));
        assert!(!verify("correct horse", "not a hash"));
    }
}
