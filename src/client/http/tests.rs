//! The client against a real TLS server that demands a client certificate.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::client::typed::Kind;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: rustls_pki_types::CertificateDer<'static>,
    pem: Vec<u8>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let pem = certificate.pem().into_bytes();
    Authority { der: certificate.der().clone(), pem, issuer: Issuer::new(params, key) }
}

impl Authority {
    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn client(&self, servers: Vec<String>) -> HttpApi {
        let (certificate, key) = self.issue("admin");
        let identity = (certificate.pem().into_bytes(), key.serialize_pem().into_bytes());
        let ca_pem = self.pem.clone();
        HttpApi::new(HttpConfig { servers, ca_pem, identity: Some(identity), token: None }).unwrap()
    }
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, hyper::Error> {
    let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let (code, body) = match (request.method().as_str(), request.uri().path()) {
        ("GET", "/api/v1/pods") if watch => (
            200,
            "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\"}}}\n\
             {\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n"
                .to_owned(),
        ),
        ("GET", "/api/v1/pods") => {
            (200, r#"{"metadata":{"resourceVersion":"7"},"items":[{}]}"#.to_owned())
        }
        ("POST", "/api/v1/namespaces/shop/pods/web/binding") => {
            let body = request.into_body().collect().await?.to_bytes();
            (201, String::from_utf8_lossy(&body).into_owned())
        }
        _ => {
            let status = crate::model::status::Status::not_found("pods", "", "x");
            (404, serde_json::to_string(&status).unwrap())
        }
    };
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed();
    Ok(Response::builder().status(code).body(body).unwrap())
}

/// A server on a free port of loopback; it ends with the set.
async fn serve(authority: &Authority, tasks: &mut JoinSet<()>) -> SocketAddr {
    // Another test may have installed the provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (certificate, key) = authority.issue("127.0.0.1");
    let mut roots = RootCertStore::empty();
    roots.add(authority.der.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    });
    address
}

/// An address of loopback where nobody listens.
async fn silent_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_silent_server_is_passed_over_for_reads_and_writes() {
    let authority = authority();
    let mut tasks = JoinSet::new();
    let live = serve(&authority, &mut tasks).await;
    let servers = vec![format!("https://{}", silent_address().await), format!("https://{live}")];
    let api = authority.client(servers.clone());
    let binding = serde_json::json!({"target": {"name": "a1"}});
    let bound = api.update(&Pod::REF, Some("shop"), "web", Some("binding"), &binding).await;
    assert_eq!(bound.unwrap(), binding);
    let api = authority.client(servers);
    let list = api.list(&Pod::REF, None, &ListOptions::default()).await.unwrap();
    assert_eq!((list.resource_version.as_str(), list.items.len()), ("7", 1));
    let missing = api.get(&Pod::REF, Some("shop"), "x").await.unwrap_err();
    assert!(missing.is_not_found());
}

#[tokio::test]
async fn a_watch_delivers_events_and_then_ends() {
    let authority = authority();
    let mut tasks = JoinSet::new();
    let live = serve(&authority, &mut tasks).await;
    let api = authority.client(vec![format!("https://{live}")]);
    let stream = api.watch(&Pod::REF, None, &ListOptions::default()).await.unwrap();
    let events: Vec<_> = stream.collect().await;
    assert!(
        matches!(&events[0], Ok(WatchEvent::Added(object)) if object["metadata"]["name"] == "a")
    );
    assert!(matches!(&events[1], Ok(WatchEvent::Bookmark(version)) if version == "9"));
    assert_eq!(events.len(), 2);
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let (ours, theirs) = (authority(), authority());
    let mut tasks = JoinSet::new();
    let live = serve(&theirs, &mut tasks).await;
    let api = ours.client(vec![format!("https://{live}")]);
    let error = api.list(&Pod::REF, None, &ListOptions::default()).await.unwrap_err();
    assert!(matches!(error, ApiError::Unreachable { .. }), "{error}");
}
