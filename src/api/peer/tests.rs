//! Links against a real listener, with certificates of a real authority.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{PeerClient, PeerServices, router};
use crate::api::listener;
use crate::base::ids::MemberId;
use crate::pki::{Authority, NodeNames};
use crate::store::{PeerError, PeerNetwork, PeerTarget};
use crate::sys::tls::{TlsFiles, TlsIdentity, install_crypto};

const PATIENCE: Duration = Duration::from_secs(60);

/// Repeats what it hears; `wait` is answered when it is told to, `refuse` never.
#[derive(Debug, Default)]
struct Echo {
    go: Notify,
}

#[async_trait]
impl PeerServices for Echo {
    async fn receive(&self, message: Bytes) -> Result<Bytes, String> {
        match &message[..] {
            b"wait" => self.go.notified().await,
            b"refuse" => return Err("this one is refused".into()),
            _ => {}
        }
        Ok(message)
    }

    async fn blob(&self, _digest: &str) -> Result<Option<Body>, String> {
        Ok(None)
    }
}

/// An authority's folder, from which nodes get their certificates.
struct Nodes {
    dir: TempDir,
    authority: Authority,
}

impl Nodes {
    fn new() -> Self {
        install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create("test", Timestamp::now()).unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.certificate_pem()).unwrap();
        Self { dir, authority }
    }

    fn identity(&self, name: &str, control: bool) -> TlsIdentity {
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let names = NodeNames {
            node_name: name.into(),
            address: "127.0.0.1".parse().unwrap(),
            api_address: "10.96.0.1".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            control,
        };
        let signed =
            self.authority.sign_node(&request.pem().unwrap(), &names, Timestamp::now()).unwrap();
        let at = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        write(&at("pem"), &signed);
        write(&at("key"), &key.serialize_pem());
        let authority = self.dir.path().join("ca.pem");
        TlsIdentity::load(TlsFiles { authority, certificate: at("pem"), key: at("key") }).unwrap()
    }

    fn client(&self, control: bool) -> PeerClient {
        PeerClient::new(self.identity("asker", control).client().unwrap()).unwrap()
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

struct Server {
    address: SocketAddr,
    cancel: CancellationToken,
    tasks: JoinSet<std::io::Result<()>>,
    echo: Arc<Echo>,
}

async fn serve(nodes: &Nodes, at: &str) -> Server {
    let socket = TcpListener::bind(at).await.unwrap();
    let address = socket.local_addr().unwrap();
    let (cancel, echo) = (CancellationToken::new(), Arc::new(Echo::default()));
    let tls = nodes.identity("answerer", true).server().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(listener::serve(socket, tls, router(echo.clone()), cancel.clone()));
    Server { address, cancel, tasks, echo }
}

async fn call(
    client: &PeerClient,
    address: SocketAddr,
    message: impl Into<Bytes>,
) -> Result<Bytes, PeerError> {
    let target = PeerTarget { member: MemberId(2), address: address.to_string() };
    client.call(&target, message.into(), PATIENCE).await
}

#[tokio::test]
async fn many_messages_of_any_size_are_answered_each_with_its_own() {
    let nodes = Nodes::new();
    let server = serve(&nodes, "127.0.0.1:0").await;
    let client = nodes.client(true);
    let mut calls: FuturesUnordered<_> = (0..2_000_usize)
        .map(|number| {
            let message = vec![number as u8; if number % 500 == 0 { 3_000_000 } else { number }];
            let client = client.clone();
            async move { (call(&client, server.address, message.clone()).await, message) }
        })
        .collect();
    let mut sizes = BTreeSet::new();
    while let Some((answer, message)) = calls.next().await {
        assert!(answer.unwrap() == message, "another's answer came");
        sizes.insert(message.len());
    }
    assert_eq!(sizes.len(), 1_997);
    // Short and long ones each have a connection, and no more than that.
    assert_eq!(client.links.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn an_answer_that_takes_long_holds_up_no_other() {
    let nodes = Nodes::new();
    let server = serve(&nodes, "127.0.0.1:0").await;
    let client = nodes.client(true);
    let mut slow = JoinSet::new();
    slow.spawn({
        let client = client.clone();
        async move { call(&client, server.address, "wait").await }
    });
    for _ in 0..100 {
        call(&client, server.address, "quick").await.unwrap();
    }
    assert!(slow.try_join_next().is_none());
    server.echo.go.notify_one();
    assert_eq!(slow.join_next().await.unwrap().unwrap().unwrap(), "wait");
    let refused = call(&client, server.address, "refuse").await.unwrap_err();
    assert!(refused.to_string().contains("this one is refused"), "{refused}");
}

#[tokio::test]
async fn a_worker_node_is_turned_away_before_it_says_anything() {
    let nodes = Nodes::new();
    let server = serve(&nodes, "127.0.0.1:0").await;
    let refused = call(&nodes.client(false), server.address, "hello").await.unwrap_err();
    assert!(matches!(&refused, PeerError::Unreachable { .. }), "{refused:?}");
    assert!(refused.to_string().contains("403"), "{refused}");
}

#[tokio::test]
async fn what_was_not_answered_when_a_peer_stops_may_have_happened_and_the_next_call_connects() {
    let nodes = Nodes::new();
    let mut server = serve(&nodes, "127.0.0.1:0").await;
    let client = nodes.client(true);
    call(&client, server.address, "hello").await.unwrap();
    let address = server.address;
    let mut open = JoinSet::new();
    open.spawn({
        let client = client.clone();
        async move { call(&client, address, "wait").await }
    });
    // The link writes in the order of the calls, so the first one is there by now.
    call(&client, server.address, "behind it").await.unwrap();
    server.cancel.cancel();
    let lost = open.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(matches!(&lost, PeerError::NoAnswer { .. }), "{lost:?}");
    while server.tasks.join_next().await.is_some() {}
    let nobody = call(&client, server.address, "hello").await.unwrap_err();
    assert!(matches!(&nobody, PeerError::Unreachable { .. }), "{nobody:?}");
    let _again = serve(&nodes, &server.address.to_string()).await;
    assert_eq!(call(&client, server.address, "hello again").await.unwrap(), "hello again");
}

/// Carries one connection to `to` until it is told to stop, and then holds both ends open.
async fn carry_until(stop: Arc<Notify>, to: SocketAddr, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        tokio::select! {
            () = stop.notified() => {}
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        }
        std::future::pending::<()>().await;
    });
    address
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_given_up() {
    let nodes = Nodes::new();
    let server = serve(&nodes, "127.0.0.1:0").await;
    let (stop, mut tasks) = (Arc::new(Notify::new()), JoinSet::new());
    let through = carry_until(stop.clone(), server.address, &mut tasks).await;
    let client = nodes.client(true);
    call(&client, through, "hello").await.unwrap();
    stop.notify_one();
    let lost = call(&client, through, "hello").await.unwrap_err();
    assert!(matches!(&lost, PeerError::NoAnswer { .. }), "{lost:?}");
    assert!(lost.to_string().contains("silent"), "{lost}");
}

/// Carries one connection to `to`, outward only `bytes` each `pause`, and stops for good
/// after `most` bytes.
async fn carry_thinly(
    (bytes, pause, most): (usize, Duration, usize),
    to: SocketAddr,
    tasks: &mut JoinSet<()>,
) -> SocketAddr {
    let listener = TcpSocket::new_v4().unwrap();
    // What lies in the buffers between the two must be little beside a message.
    listener.set_recv_buffer_size(8 * 1024).unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(to).await.unwrap();
        let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
            (near.into_split(), far.into_split());
        let back = tokio::io::copy(&mut far_read, &mut near_write);
        let out = async {
            let (mut piece, mut carried) = (vec![0; bytes], 0);
            while carried < most {
                let read = near_read.read(&mut piece).await.unwrap();
                far_write.write_all(&piece[..read]).await.unwrap();
                carried += read;
                tokio::time::sleep(pause).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! { _ = back => {}, () = out => {} }
        std::future::pending::<()>().await;
    });
    address
}

/// Four megabytes at some 300 KiB a second take longer than a peer may be silent.
#[tokio::test]
async fn a_long_message_on_a_thin_line_arrives() {
    let nodes = Nodes::new();
    let server = serve(&nodes, "127.0.0.1:0").await;
    let mut tasks = JoinSet::new();
    let line = (8 * 1024, Duration::from_millis(25), usize::MAX);
    let through = carry_thinly(line, server.address, &mut tasks).await;
    let client = nodes.client(true);
    let long = vec![7; 4_000_000];
    assert!(call(&client, through, long.clone()).await.unwrap() == long);
}

#[tokio::test]
async fn a_peer_that_takes_no_more_of_a_long_message_is_given_up() {
    let nodes = Nodes::new();
    let server = serve(&nodes, "127.0.0.1:0").await;
    let mut tasks = JoinSet::new();
    let line = (64 * 1024, Duration::ZERO, 1_000_000);
    let through = carry_thinly(line, server.address, &mut tasks).await;
    let lost = call(&nodes.client(true), through, vec![7; 40_000_000]).await.unwrap_err();
    assert!(matches!(&lost, PeerError::NoAnswer { .. }), "{lost:?}");
    assert!(lost.to_string().contains("takes nothing"), "{lost}");
}

#[tokio::test]
async fn a_peer_that_never_speaks_is_not_waited_for() {
    let nodes = Nodes::new();
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = mute.local_addr().unwrap();
    // It takes the connection and says nothing, not even TLS.
    let lost = call(&nodes.client(true), address, "hello").await.unwrap_err();
    assert!(matches!(&lost, PeerError::Unreachable { .. }), "{lost:?}");
}

#[tokio::test]
async fn a_peer_that_is_gone_without_a_word_is_let_go() {
    let nodes = Nodes::new();
    let server = serve(&nodes, "127.0.0.1:0").await;
    let (stop, mut tasks) = (Arc::new(Notify::new()), JoinSet::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = listener.local_addr().unwrap();
    let stopped = stop.clone();
    tasks.spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(server.address).await.unwrap();
        tokio::select! {
            () = stopped.notified() => {}
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        }
        // Holds the near end open and waits for the answering side to close its own.
        let mut sink = tokio::io::sink();
        let ended = tokio::time::timeout(PATIENCE, tokio::io::copy(&mut far, &mut sink));
        ended.await.expect("the answering side lets go").ok();
        drop(near);
    });
    let client = nodes.client(true);
    call(&client, through, "hello").await.unwrap();
    stop.notify_one();
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn only_the_upgrade_is_served() {
    let nodes = Nodes::new();
    let server = serve(&nodes, "127.0.0.1:0").await;
    let tls = nodes.identity("asker", true).client().unwrap();
    let plain = reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap();
    let url = format!("https://{}{}", server.address, super::MESSAGE_PATH);
    let answer = plain.get(url).send().await.unwrap();
    assert_eq!(answer.status(), http::StatusCode::UPGRADE_REQUIRED);
    assert!(answer.text().await.unwrap().contains("holdfast-peer/1"));
}
