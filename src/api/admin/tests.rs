//! Signing in to the admin page and what a session may be used for, over the real routes.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use argon2::{Argon2, PasswordHasher};
use axum::body::Body;
use axum::extract::Extension;
use axum::response::IntoResponse;
use axum::routing::{any, get};
use axum::{Router, middleware};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use http::{HeaderMap, Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::api::identity::PeerIdentity;
use crate::api::listener::RemoteAddress;
use crate::api::session_caller::SessionEnd;
use crate::base::limits::{PAGE_SESSION_ABSOLUTE, PAGE_SESSION_IDLE};
use crate::objects::access::{AuditRead, NewUserToken};
use crate::objects::memory_kv::MemoryKv;
use crate::objects::{Objects, ObjectsOptions};

const PASSWORD: &str = "correct horse";
const HOST: &str = "a1.bank:6443";
const SESSION: &str = "/holdfast/v1/session";

#[derive(Debug)]
struct Backend(Mutex<String>);

fn hash(password: &str) -> String {
    Argon2::default().hash_password(password.as_bytes()).unwrap().to_string()
}

#[async_trait]
impl AdminBackend for Backend {
    async fn status(&self) -> ClusterStatus {
        unreachable!("the status is not asked for here")
    }

    async fn password_hash(&self) -> Option<String> {
        Some(self.0.lock().unwrap().clone())
    }
}

/// Says as whom a request was taken.
async fn echo(caller: Option<Extension<SessionCaller>>) -> String {
    match caller {
        Some(Extension(SessionCaller::Known(identity))) => format!("known {}", identity.user),
        Some(Extension(SessionCaller::Token(_))) => "token".into(),
        None => "no session".into(),
    }
}

/// A stream that goes on for ever.
async fn endless() -> Body {
    let tick = || Ok::<_, Infallible>(Bytes::from_static(b"line\n"));
    Body::from_stream(
        futures::stream::once(async move { tick() }).chain(futures::stream::pending()),
    )
}

/// Switches protocols and keeps by when the conversation has to end.
async fn switched(Extension(end): Extension<SessionEnd>) -> impl IntoResponse {
    (StatusCode::SWITCHING_PROTOCOLS, Extension(end))
}

struct Node {
    backend: Arc<Backend>,
    objects: Arc<Objects>,
    router: Router,
    cookie: String,
}

impl Node {
    async fn start(name: &str) -> Self {
        let options = ObjectsOptions { service_range: "10.96.0.0/24".parse().unwrap() };
        let objects = Arc::new(Objects::new(Arc::new(MemoryKv::new()), options));
        objects.ensure_bootstrap().await.unwrap();
        let backend = Arc::new(Backend(Mutex::new(hash(PASSWORD))));
        let place = Place::new("lab", "6f3c1f0e", name);
        let cookie = place.cookie.clone();
        let door = Arc::new(Door::new(backend.clone(), Some(objects.clone()), place));
        let router = Router::new()
            .route("/api/v1/things", any(echo))
            .route("/api/v1/stream", get(endless))
            .route("/api/v1/conversation", get(switched))
            .merge(router(door.clone()));
        let router = guard(router, door).layer(middleware::from_fn(
            |mut request: axum::extract::Request, next: middleware::Next| async move {
                let address = RemoteAddress("10.0.0.9:4711".parse().unwrap());
                request.extensions_mut().insert(address);
                next.run(request).await
            },
        ));
        Self { backend, objects, router, cookie }
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = axum::body::to_bytes(body, 1_000_000).await.unwrap();
        (parts.status, parts.headers, String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What the page sends.
    fn page_asks(&self, method: &str, path: &str, id: Option<&str>) -> http::request::Builder {
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header("host", HOST)
            .header("sec-fetch-site", "same-origin")
            .header("x-holdfast-page", "active");
        if method != "GET" {
            builder = builder.header("origin", format!("https://{HOST}"));
        }
        if let Some(id) = id {
            builder = builder.header("cookie", format!("other=1; {}={id}", self.cookie));
        }
        builder
    }

    async fn sign_in(
        &self,
        shown: Value,
        id: Option<&str>,
    ) -> (StatusCode, Option<String>, String) {
        let request = self
            .page_asks("POST", SESSION, id)
            .header("content-type", "application/json")
            .body(Body::from(shown.to_string()))
            .unwrap();
        let (status, headers, body) = self.ask(request).await;
        let set = headers.get(header::SET_COOKIE).map(|text| text.to_str().unwrap().to_owned());
        (status, set, body)
    }

    async fn signed_in(&self, shown: Value) -> String {
        let (status, set, body) = self.sign_in(shown, None).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        id_of(&set.unwrap())
    }

    async fn taken_as(&self, id: &str) -> (StatusCode, String) {
        let request =
            self.page_asks("GET", "/api/v1/things", Some(id)).body(Body::empty()).unwrap();
        let (status, _, body) = self.ask(request).await;
        (status, body)
    }

    /// The audit log's records of sign-ins: verb, name, code.
    async fn recorded(&self) -> Vec<(String, String, i64)> {
        let page = self.objects.audit_page(&AuditRead::default()).await.unwrap();
        let records = page.pending.iter().filter(|record| record["uri"] == SESSION);
        let of = |record: &Value, field: &str| record[field].as_str().unwrap_or("").to_owned();
        records
            .map(|record| {
                (of(record, "verb"), of(record, "name"), record["code"].as_i64().unwrap())
            })
            .collect()
    }
}

fn password(text: &str) -> Value {
    json!({"method": "password", "user": "admin", "password": text})
}

fn id_of(set_cookie: &str) -> String {
    set_cookie.split(['=', ';']).nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn a_sign_in_makes_a_cookie_that_only_this_page_can_use() {
    let node = Node::start("a1").await;
    let (status, set, body) = node.sign_in(password(PASSWORD), None).await;
    let set = set.unwrap();
    assert_eq!(status, StatusCode::CREATED);
    assert!(set.starts_with("__Host-holdfast-"), "{set}");
    assert!(set.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{set}");
    let id = id_of(&set);
    assert!(id.len() == 43 && !body.contains(&id), "256 bits, in the cookie alone: {id}");
    assert!(
        body.contains(r#""user":"admin""#) && body.contains(r#""method":"password""#),
        "{body}"
    );
    assert_eq!(node.taken_as(&id).await, (StatusCode::OK, "known admin".into()));
    assert_eq!(node.taken_as("guessed").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(node.recorded().await, [("create".into(), "admin".into(), 201)]);
}

#[tokio::test]
async fn an_id_from_outside_is_never_taken_and_each_sign_in_makes_another() {
    let node = Node::start("a1").await;
    let planted = "planted-by-somebody-else-planted-by-somebody";
    let (_, set, _) = node.sign_in(password(PASSWORD), Some(planted)).await;
    let first = id_of(&set.unwrap());
    assert_ne!(first, planted);
    assert_eq!(node.taken_as(planted).await.0, StatusCode::UNAUTHORIZED);
    let (_, set, _) = node.sign_in(password(PASSWORD), Some(&first)).await;
    let second = id_of(&set.unwrap());
    assert_ne!(second, first);
    assert_eq!(node.taken_as(&first).await.0, StatusCode::UNAUTHORIZED, "it ended");
    assert_eq!(node.taken_as(&second).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_cookie_is_worth_nothing_after_signing_out_and_at_another_node() {
    let (node, other) = (Node::start("a1").await, Node::start("b1").await);
    let id = node.signed_in(password(PASSWORD)).await;
    assert_ne!(node.cookie, other.cookie);
    assert_eq!(other.taken_as(&id).await.0, StatusCode::UNAUTHORIZED);
    let request = node.page_asks("DELETE", SESSION, Some(&id)).body(Body::empty()).unwrap();
    let (status, headers, _) = node.ask(request).await;
    assert_eq!(status, StatusCode::OK);
    assert!(headers[header::SET_COOKIE].to_str().unwrap().ends_with("Max-Age=0"));
    assert_eq!(node.taken_as(&id).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(node.recorded().await[1], ("delete".into(), "admin".into(), 200));
}

#[tokio::test]
async fn failures_lock_the_address_even_for_what_is_right_and_are_recorded() {
    let node = Node::start("a1").await;
    tokio::time::pause();
    for _ in 0..5 {
        let (status, set, body) = node.sign_in(password("battery staple"), None).await;
        assert_eq!((status, set), (StatusCode::UNAUTHORIZED, None), "{body}");
    }
    let (status, set, body) = node.sign_in(password(PASSWORD), None).await;
    assert_eq!((status, set), (StatusCode::TOO_MANY_REQUESTS, None));
    assert!(body.contains("try again in 30 s"), "{body}");
    let records = node.recorded().await;
    assert_eq!(records.len(), 5, "what was not judged is not recorded: {records:?}");
    assert!(records.iter().all(|(_, name, code)| name == "admin" && *code == 401));
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(node.sign_in(password(PASSWORD), None).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn wrong_tokens_and_unreadable_sign_ins_are_refused() {
    let node = Node::start("a1").await;
    for shown in [
        json!({"method": "token", "token": "worthless"}),
        json!({"method": "password", "user": "jane", "password": PASSWORD}),
    ] {
        let (status, set, _) = node.sign_in(shown, None).await;
        assert_eq!((status, set), (StatusCode::UNAUTHORIZED, None));
    }
    for shown in [json!({"method": "certificate"}), json!({"method": "magic"}), json!(1)] {
        let (status, set, _) = node.sign_in(shown, None).await;
        assert_eq!((status, set), (StatusCode::BAD_REQUEST, None));
    }
}

/// A method, headers, and whether the request is taken.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);

/// Each header of a request, or none.
fn with(builder: http::request::Builder, headers: &[(&str, &str)]) -> Request<Body> {
    let add = |builder: http::request::Builder, (name, value): &(&str, &str)| {
        builder.header(*name, *value)
    };
    headers.iter().fold(builder, add).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn what_other_sites_make_a_browser_send_is_refused() {
    let node = Node::start("a1").await;
    let id = node.signed_in(password(PASSWORD)).await;
    let cookie = format!("{}={id}", node.cookie);
    let own = format!("https://{HOST}");
    let (own, page) = (("origin", own.as_str()), ("x-holdfast-page", "active"));
    let evil = ("origin", "https://evil.example");
    let other_port = ("origin", "https://a1.bank:8443");
    let socket = ("upgrade", "websocket");
    let site = |value| ("sec-fetch-site", value);
    let cases: &[Case<'_>] = &[
        ("GET", &[], true),
        ("GET", &[site("same-origin")], true),
        ("GET", &[site("none")], true),
        ("GET", &[site("cross-site")], false),
        ("GET", &[site("same-site")], false),
        ("GET", &[evil], false),
        ("GET", &[socket], false),
        ("GET", &[socket, evil], false),
        ("GET", &[socket, own], true),
        ("POST", &[], false),
        ("POST", &[own], false),
        ("POST", &[page], false),
        ("POST", &[evil, page], false),
        ("POST", &[other_port, page], false),
        ("POST", &[("origin", "null"), page], false),
        ("POST", &[("origin", "http://a1.bank:6443"), page], false),
        ("POST", &[own, page, site("cross-site")], false),
        ("POST", &[own, page], true),
        ("PATCH", &[own, page, site("same-origin")], true),
        ("DELETE", &[site("same-origin")], false),
    ];
    for (method, headers, taken) in cases {
        let builder = Request::builder()
            .method(*method)
            .uri("/api/v1/things")
            .header("host", HOST)
            .header("cookie", &cookie);
        let (status, _, _) = node.ask(with(builder, headers)).await;
        let wanted = if *taken { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(status, wanted, "{method} {headers:?}");
    }
    // A sign-in that another site makes would put its session into this browser.
    let shown = password(PASSWORD).to_string();
    for headers in [&[evil, page][..], &[own][..], &[site("cross-site"), own, page][..]] {
        let mut builder = Request::builder().method("POST").uri(SESSION).header("host", HOST);
        builder = builder.header("cookie", &cookie).header("content-type", "application/json");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let (status, _, _) = node.ask(builder.body(Body::from(shown.clone())).unwrap()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{headers:?}");
    }
}

fn peer(user: &str, group: &str, key: &str) -> PeerIdentity {
    PeerIdentity { user: user.into(), groups: vec![group.into()], key_fingerprint: key.into() }
}

#[tokio::test]
async fn a_certificate_in_a_browser_is_defended_and_one_of_kubectl_is_not_hindered() {
    let node = Node::start("a1").await;
    for (headers, wanted) in [
        (&[][..], StatusCode::OK),
        (&[("sec-fetch-site", "cross-site")][..], StatusCode::FORBIDDEN),
        (&[("origin", "https://evil.example")][..], StatusCode::FORBIDDEN),
        (&[("origin", "https://a1.bank:6443")][..], StatusCode::OK),
    ] {
        let builder = Request::builder().method("POST").uri("/api/v1/things").header("host", HOST);
        let mut request = with(builder, headers);
        request.extensions_mut().insert(peer("jane", "dev", "k1"));
        assert_eq!(node.ask(request).await.0, wanted, "{headers:?}");
    }
}

#[tokio::test]
async fn a_session_by_certificate_holds_only_with_that_certificate() {
    let node = Node::start("a1").await;
    let sign_in = |who: PeerIdentity| {
        let mut request = node
            .page_asks("POST", SESSION, None)
            .header("content-type", "application/json")
            .body(Body::from(r#"{"method":"certificate"}"#))
            .unwrap();
        request.extensions_mut().insert(who);
        request
    };
    let (status, headers, _) = node.ask(sign_in(peer("jane", "dev", "k1"))).await;
    assert_eq!(status, StatusCode::CREATED);
    let id = id_of(headers[header::SET_COOKIE].to_str().unwrap());
    let ask = |key: Option<&str>| {
        let builder = node.page_asks("GET", "/api/v1/things", Some(&id));
        let mut request = builder.body(Body::empty()).unwrap();
        if let Some(key) = key {
            request.extensions_mut().insert(peer("jane", "dev", key));
        }
        request
    };
    assert_eq!(node.ask(ask(None)).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(node.ask(ask(Some("k2"))).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(node.ask(ask(Some("k1"))).await.2, "known jane");
    let (status, _, _) = node.ask(sign_in(peer("system:node:a1", "system:nodes", "k3"))).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "a node has no use for a page");
}

#[tokio::test]
async fn idleness_and_the_absolute_end_end_a_session() {
    let node = Node::start("a1").await;
    let id = node.signed_in(password(PASSWORD)).await;
    tokio::time::pause();
    let watching = || {
        Request::get("/api/v1/things")
            .header("host", HOST)
            .header("x-holdfast-page", "watching")
            .header("cookie", format!("{}={id}", node.cookie))
            .body(Body::empty())
            .unwrap()
    };
    let nearly = PAGE_SESSION_IDLE - Duration::from_secs(1);
    tokio::time::advance(nearly).await;
    assert_eq!(node.ask(watching()).await.0, StatusCode::OK);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(node.ask(watching()).await.0, StatusCode::UNAUTHORIZED, "a page left open");
    let id = node.signed_in(password(PASSWORD)).await;
    let mut lived = Duration::ZERO;
    while lived + nearly < PAGE_SESSION_ABSOLUTE {
        tokio::time::advance(nearly).await;
        lived += nearly;
        assert_eq!(node.taken_as(&id).await.0, StatusCode::OK, "after {lived:?}");
    }
    tokio::time::advance(PAGE_SESSION_ABSOLUTE - lived).await;
    assert_eq!(node.taken_as(&id).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_session_ends_with_its_password_and_with_its_token() {
    let node = Node::start("a1").await;
    let id = node.signed_in(password(PASSWORD)).await;
    *node.backend.0.lock().unwrap() = hash("another");
    assert_eq!(node.taken_as(&id).await.0, StatusCode::UNAUTHORIZED);
    *node.backend.0.lock().unwrap() = hash(PASSWORD);
    assert_eq!(node.taken_as(&id).await.0, StatusCode::UNAUTHORIZED, "it does not come back");

    let wish: NewUserToken =
        serde_json::from_value(json!({"user": "jane", "groups": ["dev"]})).unwrap();
    let issuer = crate::objects::access::Identity::new("root", &["system:masters"]);
    let (token, info) = node.objects.create_user_token(&wish, &issuer).await.unwrap();
    let id = node.signed_in(json!({"method": "token", "token": token})).await;
    assert_eq!(node.taken_as(&id).await, (StatusCode::OK, "token".into()));
    let who = || node.page_asks("GET", SESSION, Some(&id)).body(Body::empty()).unwrap();
    assert!(node.ask(who()).await.2.contains(r#""user":"jane""#));
    let info = serde_json::to_value(&info).unwrap();
    node.objects.revoke_user_token(info["id"].as_str().unwrap()).await.unwrap();
    assert!(node.ask(who()).await.2.contains(r#""signedIn":false"#));
}

#[tokio::test]
async fn what_streams_to_a_session_ends_with_it() {
    let node = Node::start("a1").await;
    let id = node.signed_in(password(PASSWORD)).await;
    let request = node.page_asks("GET", "/api/v1/stream", Some(&id)).body(Body::empty()).unwrap();
    let answer = node.router.clone().oneshot(request).await.unwrap();
    let mut stream = answer.into_body().into_data_stream();
    assert_eq!(stream.next().await.unwrap().unwrap(), "line\n");
    let request = node.page_asks("DELETE", SESSION, Some(&id)).body(Body::empty()).unwrap();
    assert_eq!(node.ask(request).await.0, StatusCode::OK);
    assert!(stream.next().await.is_none(), "the stream has ended");
}

#[tokio::test]
async fn a_conversation_learns_of_its_sessions_end() {
    let node = Node::start("a1").await;
    let id = node.signed_in(password(PASSWORD)).await;
    let request = node
        .page_asks("GET", "/api/v1/conversation", Some(&id))
        .header("origin", format!("https://{HOST}"))
        .header("upgrade", "websocket")
        .body(Body::empty())
        .unwrap();
    let answer = node.router.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    let end = answer.extensions().get::<SessionEnd>().cloned().unwrap();
    assert!(end.clone().over().now_or_never().is_none(), "the session still holds");
    let request = node.page_asks("DELETE", SESSION, Some(&id)).body(Body::empty()).unwrap();
    assert_eq!(node.ask(request).await.0, StatusCode::OK);
    tokio::time::timeout(Duration::from_secs(60), end.over()).await.unwrap();
}

#[tokio::test]
async fn the_page_is_served_with_its_policy_and_nothing_else_by_its_name() {
    let node = Node::start("a1").await;
    let get = |path: &str| Request::get(path).header("host", HOST).body(Body::empty()).unwrap();
    let nonce = |headers: &HeaderMap| {
        let policy = headers["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'self'; script-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned()
    };
    let (status, headers, html) = node.ask(get("/ui/")).await;
    assert_eq!((status, headers["cache-control"].to_str().unwrap()), (StatusCode::OK, "no-store"));
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let first = nonce(&headers);
    assert!(html.contains(&format!("nonce=\"{first}\"")) && !html.contains("{{nonce}}"), "{html}");
    let (_, headers, _) =
        node.ask(get("/ui/kinds/a.example.com/v1/things/default/web-0.crt")).await;
    assert_ne!(nonce(&headers), first, "each answer has its own");
    let script = html.split("src=\"").nth(1).unwrap().split('"').next().unwrap();
    let (status, headers, text) = node.ask(get(script)).await;
    assert_eq!((status, headers.get("content-encoding")), (StatusCode::OK, None), "unpacked");
    assert!(
        text.len() > 10_000 && headers["cache-control"].to_str().unwrap().contains("immutable")
    );
    let packed = Request::get(script).header("accept-encoding", "br, gzip");
    let (_, headers, _) = node.ask(packed.body(Body::empty()).unwrap()).await;
    assert_eq!(headers["content-encoding"], "gzip");
    assert_eq!(node.ask(get("/ui/assets/none.js")).await.0, StatusCode::NOT_FOUND);
    let post = Request::post("/ui/").body(Body::empty()).unwrap();
    assert_eq!(node.ask(post).await.0, StatusCode::METHOD_NOT_ALLOWED);
}
