//! The sample service: says who answered, counts visits, and misbehaves on request.
//!
//! Why it can misbehave: tests of probes, rollouts and failover need a service that fails,
//! hangs and exits at a chosen moment.
//! Invariants: one log line a request on stdout; SIGTERM lets running requests end, and
//! gives up on hanging ones after [`GRACE`].
//!
//! What it says comes from POD_NAME, POD_NAMESPACE, POD_IP, NODE_NAME, CENTER and VERSION;
//! it listens on PORT, 8080 unless set. With EXIT_AFTER_MS it ends by itself after so many
//! milliseconds, with code EXIT_CODE (1 unless set).
//!
//! | path | answer |
//! |---|---|
//! | `/` | JSON: pod, node, center, hostname, who asked, visits, version |
//! | `/lookup?name=N` | JSON: name, and its addresses by the system's resolver; none for an unknown name |
//! | `/healthz`, `/readyz` | 200 `ok`, or 500 after `/control/fail`, or nothing after `/control/hang` |
//! | `/control/fail?target=live\|ready\|all` | probes fail from now on |
//! | `/control/hang` | every request but `/control/*` hangs from now on |
//! | `/control/recover` | all well again |
//! | `/control/exit?code=N` | the process ends |

#![expect(clippy::print_stdout, reason = "its log is its standard output")]

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long running requests may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

struct Service {
    visits: AtomicU64,
    live_fails: AtomicBool,
    ready_fails: AtomicBool,
    hangs: watch::Sender<bool>,
    exit: watch::Sender<Option<u8>>,
}

impl Service {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            visits: AtomicU64::new(0),
            live_fails: AtomicBool::new(false),
            ready_fails: AtomicBool::new(false),
            hangs: watch::Sender::new(false),
            exit: watch::Sender::new(None),
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let port = variable("PORT");
    let port = if port.is_empty() { "8080" } else { &port };
    let Ok(port) = port.parse::<u16>() else {
        println!("PORT {port:?} is not a port number");
        return std::process::ExitCode::from(64);
    };
    let exit_after = match exit_after() {
        Ok(exit_after) => exit_after,
        Err(reason) => {
            println!("{reason}");
            return std::process::ExitCode::from(64);
        }
    };
    let served = match tokio::net::TcpListener::bind(("0.0.0.0", port)).await {
        Ok(listener) => serve(listener, exit_after).await,
        Err(error) => Err(error),
    };
    match served {
        Ok(code) => std::process::ExitCode::from(code),
        Err(error) => {
            println!("cannot serve on port {port}: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// When to end unasked, and with which code.
fn exit_after() -> Result<Option<(Duration, u8)>, String> {
    let (after, code) = (variable("EXIT_AFTER_MS"), variable("EXIT_CODE"));
    if after.is_empty() {
        return Ok(None);
    }
    let millis = after.parse().map_err(|_| format!("EXIT_AFTER_MS {after:?} is not a number"))?;
    let code = if code.is_empty() { "1" } else { &code };
    let code = code.parse().map_err(|_| format!("EXIT_CODE {code:?} is not 0 to 255"))?;
    Ok(Some((Duration::from_millis(millis), code)))
}

async fn serve(
    listener: tokio::net::TcpListener,
    exit_after: Option<(Duration, u8)>,
) -> std::io::Result<u8> {
    let service = Service::new();
    println!("listening on {}", listener.local_addr()?);
    let mut exit = service.exit.subscribe();
    let mut asked = service.exit.subscribe();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stopping, mut stopped) = watch::channel(false);
    let stop = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = exit.wait_for(Option::is_some) => {}
        }
        println!("stopping");
        stopping.send_replace(true);
    };
    let app = router(service.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, app).with_graceful_shutdown(stop);
    let overdue = async {
        // An error means that the sender is gone, and with it the server.
        if stopped.wait_for(|stopping| *stopping).await.is_ok() {
            tokio::time::sleep(GRACE).await;
        }
    };
    let unasked = async {
        let Some((after, code)) = exit_after else { return std::future::pending().await };
        tokio::time::sleep(after).await;
        code
    };
    tokio::select! {
        ended = server => ended?,
        code = unasked => {
            println!("ending by itself with code {code}");
            return Ok(code);
        }
        () = overdue => println!("requests still hang after {} s", GRACE.as_secs()),
    }
    let code = asked.borrow_and_update().unwrap_or(0);
    Ok(code)
}

fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/control/fail", get(fail).merge(post(fail)))
        .route("/control/hang", get(hang).merge(post(hang)))
        .route("/control/recover", get(recover).merge(post(recover)))
        .route("/control/exit", get(exit).merge(post(exit)))
        .route("/lookup", get(lookup))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(identity)
        .layer(middleware::from_fn_with_state(service.clone(), observe))
        .with_state(service)
}

/// Hangs when told to, and logs one line a request.
async fn observe(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let line = format!("{peer} {} {}", request.method(), request.uri());
    let hanging = *service.hangs.borrow();
    if hanging && !request.uri().path().starts_with("/control/") {
        println!("{line} hanging");
        // Recovery lets it go on; the sender lives as long as the service.
        let _ = service.hangs.subscribe().wait_for(|hangs| !hangs).await;
    }
    let response = next.run(request).await;
    println!("{line} {}", response.status().as_u16());
    response
}

async fn identity(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let visits = service.visits.fetch_add(1, Ordering::Relaxed) + 1;
    let host = headers.get("host").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    let body = json!({
        "pod": variable("POD_NAME"),
        "podIP": variable("POD_IP"),
        "namespace": variable("POD_NAMESPACE"),
        "node": variable("NODE_NAME"),
        "center": variable("CENTER"),
        "hostname": hostname.to_string_lossy(),
        "host": host,
        "client": peer.ip().to_string(),
        "visits": visits,
        "version": version(),
    });
    Json(body).into_response()
}

/// What the system's resolver says, which in a pod asks the cluster's DNS.
async fn lookup(Query(query): Query<HashMap<String, String>>) -> Response {
    let Some(name) = query.get("name") else {
        return (StatusCode::BAD_REQUEST, "name is missing\n").into_response();
    };
    // An error is how the resolver says that there is no such name.
    let found = tokio::net::lookup_host((name.as_str(), 0)).await;
    let addresses: BTreeSet<String> =
        found.into_iter().flatten().map(|address| address.ip().to_string()).collect();
    Json(json!({"name": name, "addresses": addresses})).into_response()
}

/// The version to show: a rollout changes it by VERSION without a new image.
fn version() -> String {
    let set = variable("VERSION");
    if set.is_empty() { env!("CARGO_PKG_VERSION").into() } else { set }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn probe(fails: bool) -> Response {
    if fails {
        return (StatusCode::INTERNAL_SERVER_ERROR, "told to fail\n").into_response();
    }
    "ok\n".into_response()
}

async fn healthz(State(service): State<Arc<Service>>) -> Response {
    probe(service.live_fails.load(Ordering::Relaxed))
}

async fn readyz(State(service): State<Arc<Service>>) -> Response {
    probe(service.ready_fails.load(Ordering::Relaxed))
}

async fn fail(
    State(service): State<Arc<Service>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let target = query.get("target").map_or("all", String::as_str);
    let (live, ready) = match target {
        "all" => (true, true),
        "live" => (true, false),
        "ready" => (false, true),
        _ => {
            let text = "target is live, ready or all\n";
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    service.live_fails.fetch_or(live, Ordering::Relaxed);
    service.ready_fails.fetch_or(ready, Ordering::Relaxed);
    "failing\n".into_response()
}

async fn hang(State(service): State<Arc<Service>>) -> &'static str {
    service.hangs.send_replace(true);
    "hanging\n"
}

async fn recover(State(service): State<Arc<Service>>) -> &'static str {
    service.live_fails.store(false, Ordering::Relaxed);
    service.ready_fails.store(false, Ordering::Relaxed);
    service.hangs.send_replace(false);
    "recovered\n"
}

async fn exit(
    State(service): State<Arc<Service>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let code = query.get("code").map_or(Ok(0), |code| code.parse::<u8>());
    let Ok(code) = code else {
        return (StatusCode::BAD_REQUEST, "code is 0 to 255\n").into_response();
    };
    service.exit.send_replace(Some(code));
    "exiting\n".into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks over a real connection, as a probe does.
    async fn ask(address: SocketAddr, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: me\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_string())
    }

    async fn conversation(address: SocketAddr) {
        let (status, body) = ask(address, "/").await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["visits"], &body["host"]), (200, &json!(1), &json!("me")));
        let (_, body) = ask(address, "/any/path").await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["visits"], 2);

        let (status, body) = ask(address, "/lookup?name=localhost").await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["name"]), (200, &json!("localhost")));
        assert!(body["addresses"].as_array().unwrap().contains(&json!("127.0.0.1")), "{body}");
        let (status, body) = ask(address, "/lookup?name=..").await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["addresses"]), (200, &json!([])));

        assert_eq!(ask(address, "/control/fail?target=no").await.0, 400);
        assert_eq!(ask(address, "/control/fail?target=ready").await.0, 200);
        assert_eq!(ask(address, "/readyz").await.0, 500);
        assert_eq!(ask(address, "/healthz").await.0, 200);
        assert_eq!(ask(address, "/control/fail").await.0, 200);
        assert_eq!(ask(address, "/healthz").await.0, 500);
        assert_eq!(ask(address, "/control/recover").await.0, 200);
        assert_eq!(ask(address, "/readyz").await.0, 200);

        assert_eq!(ask(address, "/control/hang").await.0, 200);
        let mut hanging = std::pin::pin!(ask(address, "/"));
        let early = tokio::time::timeout(Duration::from_millis(200), &mut hanging).await;
        assert!(early.is_err(), "it answered while hanging");
        assert_eq!(ask(address, "/control/recover").await.0, 200);
        assert_eq!(hanging.await.0, 200);

        assert_eq!(ask(address, "/control/exit?code=x").await.0, 400);
        assert_eq!(ask(address, "/control/exit?code=7").await.0, 200);
    }

    #[tokio::test]
    async fn it_misbehaves_and_recovers_as_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (code, ()) = tokio::join!(serve(listener, None), conversation(address));
        assert_eq!(code.unwrap(), 7);
    }

    #[tokio::test]
    async fn it_ends_by_itself_when_told_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert_eq!(serve(listener, Some((Duration::from_millis(20), 3))).await.unwrap(), 3);
    }
}
