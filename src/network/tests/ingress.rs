//! The ingress for real: requests from outside, TLS, upgrades, HTTP/2, and a rollout.

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use base64::Engine;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;

use super::*;

const CLASS: &str = "holdfast";

fn put_world(hosts: &Hosts, pods: &[&Pod], annotations: Value, tls: Value) {
    hosts.api.put(
        "ingressclasses",
        json!({"metadata": {"name": CLASS}, "spec": {"controller": "holdfast.io/ingress"}}),
    );
    hosts.api.put("services", service("web", "10.96.0.40"));
    let addresses: Vec<IpAddr> = pods.iter().map(|pod| pod.address).collect();
    hosts.api.put("endpointslices", slice("web", &addresses));
    hosts.api.put(
        "ingresses",
        json!({"metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
               "spec": {"ingressClassName": CLASS, "tls": tls, "rules": [
                    {"host": "web.example.com", "http": {"paths": [
                        {"path": "/", "pathType": "Prefix", "backend": {
                            "service": {"name": "web", "port": {"number": 80}}}}]}}]}}),
    );
}

/// Answers HTTP on port 8080 of the pod with its name and what it was told; ends softly.
fn serve_http(hosts: &mut Hosts, pod: &Pod) -> tokio_util::sync::CancellationToken {
    let stop = tokio_util::sync::CancellationToken::new();
    let (name, stopped) = (pod.name.clone(), stop.clone());
    let upgraded = TaskTracker::new();
    hosts.in_pod(pod, async move || {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await.unwrap();
        let router = Router::new().fallback(move |request: Request| {
            let (name, upgraded) = (name.clone(), upgraded.clone());
            async move {
                if request.headers().contains_key("upgrade") {
                    return upgrade(request, &upgraded).into_response();
                }
                let header = |field: &str| {
                    let value = request.headers().get(field);
                    value.and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned()
                };
                let (client, proto) = (header("x-forwarded-for"), header("x-forwarded-proto"));
                format!("{name} {client} {proto} {:?}", request.version()).into_response()
            }
        });
        let served = axum::serve(listener, router);
        served.with_graceful_shutdown(stopped.cancelled_owned()).await.unwrap();
    });
    stop
}

/// Takes the connection over and says everything back.
fn upgrade(mut request: Request, tasks: &TaskTracker) -> axum::response::Response {
    let taken = hyper::upgrade::on(&mut request);
    tasks.spawn(async move {
        let stream = TokioIo::new(taken.await.unwrap());
        let (mut read, mut write) = tokio::io::split(stream);
        let _ended = tokio::io::copy(&mut read, &mut write).await;
    });
    let answer = axum::response::Response::builder().status(101);
    let answer = answer.header("connection", "upgrade").header("upgrade", "echo");
    answer.body(axum::body::Body::empty()).unwrap()
}

/// One whole request by HTTP/1.1 from a namespace; the answer's first line and body.
async fn get(from: i32, node: &str, host: &str) -> Result<String, String> {
    let (target, host) = (format!("{node}:80"), host.to_owned());
    let netns = crate::sys::in_netns::NetNs::of_process(from).unwrap();
    let work = move || async move {
        let exchange = async {
            let mut stream = tokio::net::TcpStream::connect(target).await?;
            let head = format!(
                "GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
                 X-Forwarded-For: 9.9.9.9\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            std::io::Result::Ok(text)
        };
        match tokio::time::timeout(Duration::from_secs(10), exchange).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) => Err(format!("{:?}", error.kind())),
            Err(_) => Err("timeout".to_owned()),
        }
    };
    let text = netns.run(work).await.unwrap()?;
    let code = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
    Ok(format!("{code} {body}"))
}

#[tokio::test]
async fn a_rollout_under_steady_requests_loses_none() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    let mut pods = Vec::new();
    for (node, name) in [(0, "p0"), (1, "p1"), (0, "p2"), (1, "p3"), (0, "p4"), (1, "p5")] {
        pods.push(hosts.pod(node, name).await);
    }
    let outside = hosts.outsider().await;
    assert!(get(outside, "192.168.77.1", "web.example.com").await.is_err());
    let mut servers = vec![serve_http(&mut hosts, &pods[0]), serve_http(&mut hosts, &pods[1])];
    put_world(&hosts, &[&pods[0], &pods[1]], json!({}), json!([]));
    for node in ["192.168.77.1", "192.168.77.2"] {
        eventually("it is served", async || {
            get(outside, node, "web.example.com")
                .await
                .is_ok_and(|text| text.starts_with("200 ") && text.contains("192.168.77.9 http"))
        })
        .await;
    }
    let missing = get(outside, "192.168.77.1", "other.example.com").await.unwrap();
    assert!(missing.starts_with("404"), "{missing}");

    let (done, finished) = tokio::sync::watch::channel(false);
    let (count, mut asked) = tokio::sync::watch::channel(0);
    let tasks = TaskTracker::new();
    let asking = tasks.spawn(async move {
        let mut heard: Vec<String> = Vec::new();
        while !*finished.borrow() {
            let answer = get(outside, "192.168.77.1", "web.example.com").await;
            heard.push(answer.unwrap_or_else(|error| error));
            count.send_replace(heard.len());
        }
        heard
    });
    // Each pod ends in the moment in which its successor is announced, before the proxy
    // can know: what is refused must be taken elsewhere.
    for at in 2..6 {
        let before = *asked.borrow();
        servers.push(serve_http(&mut hosts, &pods[at]));
        let target = SocketAddr::new(pods[at].address, 8080);
        let node = hosts.pid(0);
        eventually("the next one serves", async || connects(node, target).await).await;
        hosts.api.put("endpointslices", slice("web", &[pods[at - 1].address, pods[at].address]));
        servers[at - 2].cancel();
        // The next one ends only when both nodes know: who does not has nobody left to ask.
        let name = pods[at].name.clone();
        for node in ["192.168.77.1", "192.168.77.2"] {
            eventually("it is asked", async || {
                let heard = get(outside, node, "web.example.com").await;
                heard.is_ok_and(|text| text.contains(&name))
            })
            .await;
        }
        asked.wait_for(|count| *count > before + 5).await.unwrap();
    }
    done.send_replace(true);
    let heard = asking.await.unwrap();
    let lost: Vec<&String> = heard.iter().filter(|text| !text.starts_with("200 ")).collect();
    assert!(lost.is_empty(), "{} of {} were lost: {lost:?}", lost.len(), heard.len());
    // Nobody is left.
    hosts.api.put("endpointslices", slice("web", &[]));
    eventually("it says so", async || {
        get(outside, "192.168.77.1", "web.example.com")
            .await
            .is_ok_and(|text| text.starts_with("503"))
    })
    .await;
}

async fn connects(from: i32, target: SocketAddr) -> bool {
    let netns = crate::sys::in_netns::NetNs::of_process(from).unwrap();
    let work = move || async move { tokio::net::TcpStream::connect(target).await.is_ok() };
    netns.run(work).await.unwrap()
}

/// A TLS client's stream; the name is what it asks for.
async fn tls(
    root: rustls_pki_types::CertificateDer<'static>,
    name: &str,
    alpn: &[u8],
) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = tokio::net::TcpStream::connect("192.168.77.1:443").await?;
    let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn put_certificate(hosts: &Hosts, names: &[&str]) -> rustls_pki_types::CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let encode = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    hosts.api.put(
        "secrets",
        json!({"metadata": {"name": "cert", "namespace": "shop"}, "data": {
            "tls.crt": encode(made.cert.pem()), "tls.key": encode(made.signing_key.serialize_pem())}}),
    );
    made.cert.der().clone()
}

#[tokio::test]
async fn tls_upgrades_and_http2_pass_and_certificates_change_without_a_restart() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    let pod = hosts.pod(1, "p1").await;
    let _server = serve_http(&mut hosts, &pod);
    let outside = hosts.outsider().await;
    let root = put_certificate(&hosts, &["web.example.com"]);
    let secured = json!([{"hosts": ["web.example.com"], "secretName": "cert"}]);
    put_world(&hosts, &[&pod], json!({"holdfast.io/ssl-redirect": "true"}), secured.clone());
    eventually("clients without TLS are sent there", async || {
        get(outside, "192.168.77.1", "web.example.com")
            .await
            .is_ok_and(|text| text.starts_with("308"))
    })
    .await;
    let netns = || crate::sys::in_netns::NetNs::of_process(outside).unwrap();
    let trusts = async |root: &rustls_pki_types::CertificateDer<'static>| {
        let root = root.clone();
        let work = move || async move { tls(root, "web.example.com", b"http/1.1").await.is_ok() };
        netns().run(work).await.unwrap()
    };
    eventually("the certificate is shown", async || trusts(&root).await).await;

    // An upgraded connection carries bytes both ways.
    let own = root.clone();
    let echoed = move || async move {
        let mut stream = tls(own, "web.example.com", b"http/1.1").await.unwrap();
        let head = "GET /ws HTTP/1.1\r\nHost: web.example.com\r\nConnection: Upgrade\r\n\
                    Upgrade: echo\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(stream.read_u8().await.unwrap());
        }
        assert!(text.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&text));
        stream.write_all(b"both ways").await.unwrap();
        let mut back = [0; 9];
        stream.read_exact(&mut back).await.unwrap();
        back
    };
    assert_eq!(&netns().run(echoed).await.unwrap(), b"both ways");

    // gRPC comes by HTTP/2 with TLS and goes on by HTTP/2 without; the rest by HTTP/1.1.
    for (kind, version) in [("application/grpc", "HTTP/2.0"), ("text/plain", "HTTP/1.1")] {
        let own = root.clone();
        let asked = move || async move {
            let stream = tls(own, "web.example.com", b"h2").await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            let tasks = TaskTracker::new();
            let driven = tasks.spawn(connection);
            let request = hyper::Request::builder()
                .uri("https://web.example.com/a")
                .header("content-type", kind)
                .body(axum::body::Body::empty())
                .unwrap();
            let answer = sender.send_request(request).await.unwrap();
            let body = axum::body::to_bytes(axum::body::Body::new(answer.into_body()), 1_000).await;
            drop(sender);
            driven.await.unwrap().unwrap();
            String::from_utf8(body.unwrap().to_vec()).unwrap()
        };
        let text = netns().run(asked).await.unwrap();
        assert!(text.ends_with(&format!("https {version}")), "{kind}: {text}");
    }

    // Another certificate takes over by itself.
    let next = put_certificate(&hosts, &["web.example.com"]);
    eventually("the new certificate is shown", async || trusts(&next).await).await;
    assert!(!trusts(&root).await);
}
