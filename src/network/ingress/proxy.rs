//! One request on its way to a pod and back.
//!
//! ```text
//! host and path ─► route ─► Service by weight ─► a pod by chance
//!    not sent (refused, closed) ─► another pod, up to TRIES
//!    sent and broken ─► another pod only for what may be repeated and has no body
//! ```
//! Why the client's own `X-Forwarded-*` are replaced: nobody before this proxy is trusted.
//! Invariant: what belongs to one connection (`Connection` and what it names) stays on it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::body::Body;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TE, UPGRADE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;

use super::pool::{Pool, SendError};
use crate::base::chain::chain;
use crate::logic::ingress::{Routes, Speaks, Upstream};
use crate::sys::fresh;

/// How many pods are tried.
const TRIES: usize = 4;
/// What belongs to one connection and is not passed on.
const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// Who came, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) address: SocketAddr,
    pub(super) secure: bool,
}

/// Passes requests on.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    pub(super) routes: Arc<ArcSwap<Routes>>,
    pub(super) pool: Pool,
    /// Conversations that took over their connections.
    pub(super) upgraded: TaskTracker,
}

fn say(code: StatusCode, text: &str) -> Response<Body> {
    let mut answer = Response::new(Body::from(format!("{text}\n")));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}

/// The host that is asked for, as it was written, with its port.
fn authority<B>(request: &Request<B>) -> String {
    let named = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let header = || request.headers().get(HOST)?.to_str().ok().map(str::to_owned);
    named.or_else(header).unwrap_or_default()
}

/// Without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn is_upgrade<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && request.headers().contains_key(UPGRADE)
        && names_token(request.headers(), &CONNECTION, "upgrade")
}

fn names_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/grpc"))
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|one| one.trim().to_ascii_lowercase())
        .collect();
    for name in named.iter().map(String::as_str).chain(HOP_BY_HOP) {
        headers.remove(name);
    }
    // gRPC says that it takes trailers; nothing else of it may pass.
    let trailers = names_token(headers, &TE, "trailers");
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// The request's head as the pod gets it.
fn forward(mut parts: Parts, authority: &str, caller: Caller, h2: bool) -> Parts {
    let upgrade = parts.headers.get(UPGRADE).cloned().filter(|_| {
        parts.version == Version::HTTP_11 && names_token(&parts.headers, &CONNECTION, "upgrade")
    });
    strip(&mut parts.headers);
    if let Some(upgrade) = upgrade {
        parts.headers.insert(UPGRADE, upgrade);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let client = caller.address.ip().to_string();
    let (scheme, port) = if caller.secure { ("https", "443") } else { ("http", "80") };
    let headers = &mut parts.headers;
    headers.remove("forwarded");
    set(headers, "x-forwarded-for", &client);
    set(headers, "x-real-ip", &client);
    set(headers, "x-forwarded-host", authority);
    set(headers, "x-forwarded-proto", scheme);
    set(headers, "x-forwarded-port", port);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    if h2 {
        parts.headers.remove(HOST);
        parts.version = Version::HTTP_2;
        let whole = Uri::builder().scheme("http").authority(authority).path_and_query(path);
        parts.uri = whole.build().unwrap_or_default();
    } else {
        set(&mut parts.headers, "host", authority);
        parts.version = Version::HTTP_11;
        parts.uri = path.parse().unwrap_or_default();
    }
    parts
}

/// All targets, from a random one on.
fn order(upstream: &Upstream) -> Vec<SocketAddr> {
    let mut targets = upstream.targets.clone();
    if !targets.is_empty() {
        let start = fresh::below(targets.len());
        targets.rotate_left(start);
    }
    targets.truncate(TRIES);
    targets
}

impl Proxy {
    pub(super) async fn handle(
        self,
        request: Request<Incoming>,
        caller: Caller,
    ) -> Result<Response<Body>, Infallible> {
        let authority = authority(&request);
        let routes = self.routes.load_full();
        let Some(route) = routes.find(host_of(&authority), request.uri().path()) else {
            return Ok(say(StatusCode::NOT_FOUND, "no ingress for this host and path"));
        };
        if route.redirect && !caller.secure {
            return Ok(redirect(&authority, request.uri()));
        }
        let draw = |sum| u32::try_from(fresh::below(sum as usize)).unwrap_or_default();
        let Some(upstream) = route.choose(draw).filter(|found| !found.targets.is_empty()) else {
            return Ok(say(StatusCode::SERVICE_UNAVAILABLE, "no endpoint is ready"));
        };
        Ok(self.pass(request, upstream, &authority, caller).await)
    }

    async fn pass(
        &self,
        mut request: Request<Incoming>,
        upstream: &Upstream,
        authority: &str,
        caller: Caller,
    ) -> Response<Body> {
        let upgrade = is_upgrade(&request).then(|| hyper::upgrade::on(&mut request));
        let h2 = upgrade.is_none()
            && match upstream.speaks {
                Speaks::H2c => true,
                Speaks::Http => is_grpc(request.headers()),
                Speaks::Http1 => false,
            };
        let (parts, body) = request.into_parts();
        let parts = forward(parts, authority, caller, h2);
        let again = (body.is_end_stream() && parts.method.is_idempotent() && upgrade.is_none())
            .then(|| parts.clone());
        let mut next = Some(Request::from_parts(parts, Body::new(body)));
        let mut last = None;
        for target in order(upstream) {
            let Some(request) = next.take() else { break };
            let sent = if h2 {
                self.pool.send_h2(target, request).await
            } else {
                self.pool.send(target, request).await
            };
            match sent {
                Ok(response) => return self.answer(response, upgrade),
                Err(failed) => {
                    let (error, back) = *failed;
                    tracing::debug!(upstream = upstream.name, error = chain(&error), "trying on");
                    last = Some(error);
                    let repeat =
                        || again.clone().map(|parts| Request::from_parts(parts, Body::empty()));
                    next = back.or_else(repeat);
                }
            }
        }
        let code = match last {
            Some(SendError::Silent { .. }) => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        };
        if let Some(error) = last {
            tracing::info!(upstream = upstream.name, error = chain(&error), "no answer");
        }
        say(code, "the service does not answer")
    }

    fn answer(
        &self,
        mut response: Response<Incoming>,
        upgrade: Option<hyper::upgrade::OnUpgrade>,
    ) -> Response<Body> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(client) = upgrade
        {
            let pod = hyper::upgrade::on(&mut response);
            self.upgraded.spawn(async move {
                let (Ok(client), Ok(pod)) = (client.await, pod.await) else { return };
                let (mut client, mut pod) = (TokioIo::new(client), TokioIo::new(pod));
                // Whoever ends it does so by closing; that is how it ends.
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut pod).await;
            });
            return response.map(|_| Body::empty());
        }
        strip(response.headers_mut());
        response.map(Body::new)
    }
}

fn redirect(authority: &str, uri: &Uri) -> Response<Body> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut answer = say(StatusCode::PERMANENT_REDIRECT, "by TLS, please");
    set(answer.headers_mut(), "location", &format!("https://{}{path}", host_of(authority)));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_connection_stays_and_the_client_cannot_lie() {
        let request = Request::builder()
            .uri("http://web.example.com:8080/a?b=c")
            .header("connection", "keep-alive, X-Own")
            .header("x-own", "1")
            .header("te", "trailers, deflate")
            .header("x-forwarded-for", "1.2.3.4")
            .header("accept", "a")
            .body(())
            .unwrap();
        let authority = authority(&request);
        assert_eq!(host_of(&authority), "web.example.com");
        let caller = Caller { address: "192.0.2.7:5".parse().unwrap(), secure: true };
        let (parts, ()) = request.into_parts();
        let one = forward(parts.clone(), &authority, caller, false);
        assert_eq!(one.uri, "/a?b=c");
        let header = |name: &str| one.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("x-forwarded-for"), Some("192.0.2.7"));
        assert_eq!(header("x-forwarded-proto"), Some("https"));
        assert_eq!(header("host"), Some("web.example.com:8080"));
        assert_eq!(header("te"), Some("trailers"));
        assert_eq!((header("x-own"), header("connection")), (None, None));
        assert_eq!(header("accept"), Some("a"));
        let two = forward(parts, &authority, caller, true);
        assert_eq!(two.uri, "http://web.example.com:8080/a?b=c");
        assert_eq!(two.version, Version::HTTP_2);
        assert!(!two.headers.contains_key("host"));
    }
}
