//! `/holdfast/v1/session`: signing in, who one is, signing out.
//!
//! | method | what |
//! |---|---|
//! | `GET` | who is signed in, and by which certificate one could sign in |
//! | `POST` | `{"method":"password","user","password"}`, `{"method":"token","token"}` or `{"method":"certificate"}`: a new session in a cookie |
//! | `DELETE` | ends the session |
//!
//! Invariants: each sign-in makes a new id and ends the session that the browser had; a
//! refusal does not say which part was wrong; what was judged is in the audit log, and
//! what was locked out is not, so that nobody floods it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::door::{Door, NotLetIn, Session, Shown};
use super::guard::{self, PAGE_HEADER};
use crate::api::identity::PeerIdentity;
use crate::api::listener::RemoteAddress;
use crate::base::limits::PAGE_SESSION_IDLE;
use crate::model::status::Status;
use crate::objects::access::{ANONYMOUS, Author, Identity, Origin};

pub(super) const PATH: &str = "/holdfast/v1/session";
/// A sign-in's body, bytes.
const BODY_MAX: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(tag = "method", rename_all = "camelCase", deny_unknown_fields)]
enum SignIn {
    Password { user: String, password: String },
    Token { token: String },
    Certificate {},
}

fn described(door: &Door, session: Option<&Session>, peer: Option<&PeerIdentity>) -> Value {
    let person = peer.filter(|peer| !peer.is_node() && !peer.is_etcd_client());
    let certificate = person.map(|peer| peer.user.clone());
    match session {
        None => json!({"signedIn": false, "certificate": certificate}),
        Some(session) => json!({
            "signedIn": true,
            "certificate": certificate,
            "user": session.identity.user,
            "groups": session.identity.groups,
            "method": session.method(),
            "node": door.place.node,
            "cluster": door.place.cluster,
            "idleSeconds": PAGE_SESSION_IDLE.as_secs(),
            "remainingSeconds": session.remaining.as_secs(),
        }),
    }
}

fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) async fn show(
    State(door): State<Arc<Door>>,
    session: Option<Extension<Session>>,
    peer: Option<Extension<PeerIdentity>>,
) -> Response {
    let mut session = session.map(|Extension(session)| session);
    if let Some(super::SessionCaller::Token(token)) = session.as_ref().map(Session::caller) {
        // One whose token is worthless by now is nobody; without an answer he stays who he was.
        if let Ok(None) = door.token(&token).await {
            session = None;
        }
    }
    let peer = peer.as_ref().map(|Extension(peer)| peer);
    no_store(Json(described(&door, session.as_ref(), peer)).into_response())
}

fn origin(parts: &Parts) -> Origin {
    let remote = parts.extensions.get::<RemoteAddress>();
    let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    Origin {
        uri: PATH.to_owned(),
        source: remote.map(|remote| remote.0.to_string()).unwrap_or_default(),
        user_agent: agent.unwrap_or_default().to_owned(),
    }
}

/// Without a majority nothing can be recorded, and the page is needed most then.
async fn recorded(
    door: &Door,
    parts: &Parts,
    who: (Identity, &str, &str),
    code: u16,
) -> Result<(), Status> {
    let Some(objects) = &door.objects else { return Ok(()) };
    let (identity, verb, name) = who;
    let author = Author::of_url(identity, None, origin(parts), verb).about(None, Some(name));
    let reason = if code == 401 { "Unauthorized" } else { "" };
    match objects.record_apart(&author, code, reason).await {
        Err(status) if status.code >= 500 => {
            tracing::warn!(name, verb, code, reason = status.message, "not in the audit log");
            Ok(())
        }
        other => other,
    }
}

fn refused(status: &Status) -> Response {
    no_store(guard::refused(status))
}

fn not_let_in(why: NotLetIn) -> Response {
    match why {
        NotLetIn::Wrong => refused(&Status::failure(401, "Unauthorized", "the sign-in is wrong")),
        NotLetIn::Locked(seconds) => {
            let text = format!("too many failed sign-ins: try again in {seconds} s");
            let mut response = refused(&Status::failure(429, "TooManyRequests", text));
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
        NotLetIn::Unanswered(status) => refused(&status),
    }
}

/// What the request shows, and under which name a failure is recorded.
async fn shown(parts: &Parts, body: axum::body::Body) -> Option<(Shown, String)> {
    let bytes = axum::body::to_bytes(body, BODY_MAX).await.ok()?;
    Some(match serde_json::from_slice(&bytes).ok()? {
        SignIn::Password { user, password } => {
            let name = user.clone();
            (Shown::Password { user, password }, name)
        }
        SignIn::Token { token } => (Shown::Token(token), "token".to_owned()),
        SignIn::Certificate {} => {
            let peer = parts.extensions.get::<PeerIdentity>()?.clone();
            let name = peer.user.clone();
            (Shown::Certificate(peer), name)
        }
    })
}

pub(super) async fn sign_in(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let json = parts.headers.get(header::CONTENT_TYPE).is_some_and(|media| {
        media.to_str().is_ok_and(|media| media.starts_with("application/json"))
    });
    if !json || !parts.headers.contains_key(PAGE_HEADER) {
        return guard::from_elsewhere();
    }
    let Some((shown, name)) = shown(&parts, body).await else {
        return refused(&Status::bad_request("the sign-in cannot be read"));
    };
    let from = RemoteAddress::source(&parts.extensions);
    let answer = door.sign_in(shown, &from).await;
    let who = match &answer {
        Ok((_, session)) => Some((session.identity.clone(), 201)),
        Err(NotLetIn::Wrong) => Some((Identity::new(ANONYMOUS, &[]), 401)),
        Err(NotLetIn::Locked(_) | NotLetIn::Unanswered(_)) => None,
    };
    if let Some((identity, code)) = who
        && let Err(status) = recorded(&door, &parts, (identity, "create", &name), code).await
    {
        if let Ok((id, _)) = &answer {
            door.close(id);
        }
        return refused(&status);
    }
    match answer {
        Ok((id, session)) => {
            if let Some(old) = guard::cookie(&parts.headers, &door.place.cookie) {
                door.close(old);
            }
            let peer = parts.extensions.get::<PeerIdentity>();
            let body = Json(described(&door, Some(&session), peer));
            let mut response = no_store((StatusCode::CREATED, body).into_response());
            guard::set_cookie(&mut response, &door.place.cookie, Some(&id));
            response
        }
        Err(why) => not_let_in(why),
    }
}

pub(super) async fn sign_out(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let id = guard::cookie(&parts.headers, &door.place.cookie);
    if let Some(session) = id.and_then(|id| door.close(id)) {
        let name = session.identity.user.clone();
        let who = (session.identity, "delete", name.as_str());
        // The session has ended whether or not that can be written down.
        let _logged = recorded(&door, &parts, who, 200).await;
    }
    let mut response = no_store(Json(json!({"signedIn": false})).into_response());
    guard::set_cookie(&mut response, &door.place.cookie, None);
    response
}
