//! Who is calling: a session of the admin page, a client certificate, a bearer token, or
//! nobody.
//!
//! Invariants: a session counts before a certificate, and that before a token; a token that is worthless is an error
//! and never makes its bearer anonymous; nobody gets only what every cluster tells
//! everybody (health and version).
//! Not here: what tokens are (`objects/access`), acting as others (`impersonation`).

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, Method, header};

use super::respond::Refusal;
use super::{KubeState, impersonation};
use crate::api::identity::PeerIdentity;
use crate::api::listener::RemoteAddress;
use crate::api::session_caller::SessionCaller;
use crate::model::status::Status;
use crate::objects::access::{Identity, Origin};

/// Before the name of a client of the store's own port.
const ETCD_PREFIX: &str = "system:etcd-client:";

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// The caller, as certificate or token says it; 401 for nobody.
async fn caller(state: &KubeState, parts: &Parts) -> Result<Identity, Status> {
    match parts.extensions.get::<SessionCaller>() {
        Some(SessionCaller::Known(identity)) => return Ok(identity.clone().authenticated()),
        Some(SessionCaller::Token(token)) => return bearer_of(state, token).await,
        None => {}
    }
    if let Some(peer) = parts.extensions.get::<PeerIdentity>() {
        // Whom the store's own clients are called has nothing to do with users here.
        let prefix = if peer.is_etcd_client() { ETCD_PREFIX } else { "" };
        let (user, groups) = (format!("{prefix}{}", peer.user), peer.groups.clone());
        return Ok(Identity { user, groups, ..Identity::default() }.authenticated());
    }
    bearer_of(state, bearer(&parts.headers).ok_or_else(Status::unauthorized)?).await
}

async fn bearer_of(state: &KubeState, token: &str) -> Result<Identity, Status> {
    let found = state.objects.authenticate(token, &[]).await?;
    found.map(|found| found.identity).ok_or_else(Status::unauthorized)
}

/// Whose rights count for a request, and who sent it.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Whose rights count.
    pub(super) identity: Identity,
    /// Who acts in that one's place.
    pub(super) impersonator: Option<Identity>,
    pub(super) origin: Origin,
}

/// Why there is no caller.
#[derive(Debug)]
pub(super) enum NoCaller {
    /// Nobody knows who it is.
    Unknown(Status),
    /// Somebody who may not act as another.
    Refused(Status, Caller),
}

fn origin(parts: &Parts) -> Origin {
    let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let uri = parts.uri.path_and_query().map(ToString::to_string);
    Origin {
        uri: uri.unwrap_or_default(),
        source: parts
            .extensions
            .get::<RemoteAddress>()
            .map(|remote| remote.0.to_string())
            .unwrap_or_default(),
        user_agent: agent.unwrap_or_default().to_owned(),
    }
}

/// Finds out who calls, and as whom.
pub(super) async fn of(state: &KubeState, parts: &Parts) -> Result<Caller, NoCaller> {
    let own = caller(state, parts).await.map_err(NoCaller::Unknown)?;
    let origin = origin(parts);
    match impersonation::identity(state, &own, &parts.headers).await {
        Ok(None) => Ok(Caller { identity: own, impersonator: None, origin }),
        Ok(Some(identity)) => Ok(Caller { identity, impersonator: Some(own), origin }),
        Err(status) => {
            Err(NoCaller::Refused(status, Caller { identity: own, impersonator: None, origin }))
        }
    }
}

/// Lets only those pass who may use the path, which is no resource.
pub(super) async fn guard_url(
    State(state): State<KubeState>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let checked = match of(&state, &parts).await {
        Ok(caller) => check_url(&state, &parts, &caller).await.map(|()| caller),
        Err(NoCaller::Unknown(status) | NoCaller::Refused(status, _)) => Err(status),
    };
    match checked {
        Ok(caller) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(status) => Refusal(status).into_response(),
    }
}

pub(super) async fn check_url(
    state: &KubeState,
    parts: &Parts,
    caller: &Caller,
) -> Result<(), Status> {
    let verb = url_verb(&parts.method);
    state.objects.authorize_url(&caller.identity, &verb, parts.uri.path()).await
}

/// What RBAC calls a method on a path that is no resource.
pub(super) fn url_verb(method: &Method) -> String {
    method.as_str().to_ascii_lowercase()
}
