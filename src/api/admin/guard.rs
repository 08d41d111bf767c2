//! Turns a session's cookie into a caller, and keeps other sites' pages out.
//!
//! Why for certificates too: a browser shows its certificate to whoever makes it ask, as it
//! sends a cookie. What a person's browser adds by itself is only taken from the page of
//! this very node.
//!
//! | a request with | is taken if |
//! |---|---|
//! | cookie or certificate | `Sec-Fetch-Site` is `same-origin` or `none`, or missing; `Origin` is this address, or missing |
//! | cookie, and it changes something | also: `Origin` is there, and `X-Holdfast-Page` |
//! | cookie, and it opens a WebSocket | also: `Origin` is there |
//!
//! Invariants: a request with a cookie of this node is the session's or nobody's, never
//! again the certificate's; what streams to a session ends with the session.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, middleware};
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::door::{Door, Session};
use crate::api::identity::PeerIdentity;
use crate::api::other_sites::{MadeBy, made_by};
use crate::model::status::Status;

/// The header that only our own page sends: `active` when its user did something lately,
/// else `watching`.
pub(super) const PAGE_HEADER: &str = "x-holdfast-page";

/// Puts the session's caller into each request; refuses what another site makes.
pub fn guard(router: Router, door: Arc<Door>) -> Router {
    router.layer(middleware::from_fn_with_state(door, check))
}

/// What a cookie of ours holds.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|text| text.to_str().ok());
    pairs
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(own, _)| *own == name)
        .map(|(_, value)| value)
}

fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

fn upgrades(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

pub(super) fn refused(status: &Status) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, Json(status)).into_response()
}

/// Nothing of what a browser adds by itself counts for a request that another page made.
pub(super) fn from_elsewhere() -> Response {
    let message = "this request comes from a page of another site, or does not say that it comes \
                   from the admin page of this node";
    refused(&Status::failure(403, "Forbidden", message))
}

/// What holds a request back that has a cookie.
fn defended(request: &Request, from: MadeBy) -> bool {
    let headers = request.headers();
    match (changes(request.method()), upgrades(headers)) {
        (_, true) => from == MadeBy::OwnPage,
        (true, false) => from == MadeBy::OwnPage && headers.contains_key(PAGE_HEADER),
        (false, false) => from != MadeBy::AnotherSite,
    }
}

async fn check(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerIdentity>().cloned();
    let id = cookie(request.headers(), &door.place.cookie).map(str::to_owned);
    let from = made_by(request.method(), request.uri(), request.headers());
    if (id.is_some() || peer.is_some()) && from == MadeBy::AnotherSite {
        return from_elsewhere();
    }
    let path = request.uri().path();
    let public = path == "/ui" || path.starts_with("/ui/");
    let Some(id) = id.filter(|_| !public) else { return next.run(request).await };
    if !defended(&request, from) {
        return from_elsewhere();
    }
    let watches = request.headers().get(PAGE_HEADER).is_some_and(|value| value == "watching");
    let signs_in = path == super::session::PATH;
    let found = door.find(&id, peer.as_ref(), !watches).await;
    let mut request = request;
    match found {
        Some(session) => {
            request.extensions_mut().remove::<PeerIdentity>();
            request.extensions_mut().insert(session.caller());
            request.extensions_mut().insert(session.clone());
            // The way to sign in by certificate again, with a session of another kind.
            if let Some(peer) = peer.filter(|_| signs_in) {
                request.extensions_mut().insert(peer);
            }
            bounded(next.run(request).await, &session)
        }
        None if signs_in => next.run(request).await,
        None => {
            let message = "the session is over or is not of this node: sign in again";
            refused(&Status::failure(401, "Unauthorized", message))
        }
    }
}

/// Ends the body when the session does; a body whose length is known is no stream.
fn bounded(response: Response, session: &Session) -> Response {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        || http_body::Body::size_hint(response.body()).exact().is_some()
    {
        return response;
    }
    let (parts, body) = response.into_parts();
    let (ended, remaining) = (session.ended.clone(), session.remaining);
    let over = async move {
        let _either = tokio::time::timeout(remaining, ended.cancelled()).await;
    };
    let body = Body::from_stream(body.into_data_stream().take_until(Box::pin(over)));
    Response::from_parts(parts, body)
}

/// Sets or, without an id, clears the cookie. `__Host-` lets no other host name set it.
pub(super) fn set_cookie(response: &mut Response, name: &str, id: Option<&str>) {
    let value = match id {
        Some(id) => format!("{name}={id}; Path=/; Secure; HttpOnly; SameSite=Strict"),
        None => format!("{name}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"),
    };
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}
