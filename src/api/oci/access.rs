//! Decides who may read and who may write.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::header;
use axum::http::request::Parts;
use base64::Engine;

use crate::api::identity::PeerIdentity;
use crate::api::listener::RemoteAddress;
use crate::api::oci::answer::Refusal;
use crate::api::other_sites::{MadeBy, made_by};

/// The group whose members may do everything, as in Kubernetes.
const MASTERS: &str = "system:masters";

/// Checks the administrator's name and password; `source` is the address that shows them.
#[async_trait]
pub trait PasswordCheck: Send + Sync + std::fmt::Debug + 'static {
    async fn is_admin(&self, user: &str, password: &str, source: &str) -> bool;
}

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Read,
    Write,
}

/// Passes or refuses a request before anything of it is acted on.
pub(super) async fn check(
    passwords: &Arc<dyn PasswordCheck>,
    request: &Parts,
    wish: Wish,
) -> Result<(), Refusal> {
    let identity = request.extensions.get::<PeerIdentity>().cloned();
    let by = made_by(&request.method, &request.uri, &request.headers);
    if by == MadeBy::AnotherSite && identity.is_some() {
        return Err(Refusal::denied());
    }
    if let Some(identity) = &identity
        && (wish == Wish::Read && !identity.is_etcd_client()
            || identity.groups.iter().any(|group| group == MASTERS))
    {
        return Ok(());
    }
    let given = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some((user, password)) = given.and_then(basic) {
        let source = RemoteAddress::source(&request.extensions);
        return if passwords.is_admin(&user, &password, &source).await {
            Ok(())
        } else {
            Err(Refusal::unauthorized())
        };
    }
    // A known client that may not is told so; an unknown one is asked who it is.
    if identity.is_some() { Err(Refusal::denied()) } else { Err(Refusal::unauthorized()) }
}

fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
