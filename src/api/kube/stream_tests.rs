//! Exec, attach, cp and port-forward: raw clients, and the real kubectl, against a node
//! whose containers are processes of this machine.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Extension;
use futures::{SinkExt, StreamExt};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::kubectl_tests::Kubectl;
use super::options::Options;
use super::streams::{self, StreamRequest};
use super::tests::{EchoLogs, Server};
use super::{KubeState, OpenedStream, PodStreams};
use crate::api::pod_streams::Action;
use crate::api::pod_streams::fake::{LocalPods, TestNode};
use crate::api::session_caller::SessionEnd;
use crate::model::kinds::{self, Subresource};
use crate::model::status::Status;
use crate::objects::access::{Author, Identity, Origin};
use crate::objects::{Address, Objects, WriteOptions};

const PATIENCE: Duration = Duration::from_secs(60);

/// Asks one node over plain HTTP.
#[derive(Debug)]
pub(super) struct NodeClient {
    node: SocketAddr,
    pods: Arc<LocalPods>,
}

impl NodeClient {
    pub(super) fn new(node: &TestNode) -> Self {
        Self { node: node.address, pods: node.pods.clone() }
    }
}

#[async_trait]
impl PodStreams for NodeClient {
    async fn open(
        &self,
        node: &str,
        path: &str,
        headers: HeaderMap,
    ) -> Result<OpenedStream, Status> {
        assert_eq!(node, "n1");
        if let Some(upgrade) = headers.get("upgrade") {
            self.pods.note(upgrade.to_str().unwrap());
        }
        let client = reqwest::Client::builder().no_proxy().http1_only().build().unwrap();
        let url = format!("http://{}{path}", self.node);
        let answer = client.get(url).headers(headers).send().await.unwrap();
        if answer.status() != 101 {
            return Err(serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap());
        }
        let headers = answer.headers().clone();
        Ok(OpenedStream { headers, io: Box::new(answer.upgrade().await.unwrap()) })
    }
}

async fn create_pod(server: &Server, containers: &[&str]) {
    let kind = kinds::by_path("", "v1", "pods").unwrap();
    let containers: Vec<Value> =
        containers.iter().map(|name| json!({"name": name, "image": "hello:1"})).collect();
    let pod = json!({
        "metadata": {"name": "web"},
        "spec": {"nodeName": "n1", "containers": containers},
    });
    let options = WriteOptions::default();
    server.objects.create(kind, Some("default"), pod, options).await.unwrap();
}

async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !check() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come to pass");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

type Socket = WebSocketStream<TcpStream>;

async fn open(server: &Server, path: &str, protocol: &str) -> Result<Socket, (u16, String)> {
    let url = format!("ws://{}/api/v1/namespaces/default/pods/web/{path}", server.address);
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    let stream = TcpStream::connect(server.address).await.unwrap();
    match client_async(request, stream).await {
        Ok((socket, answer)) => {
            assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
            Ok(socket)
        }
        Err(tungstenite::Error::Http(answer)) => {
            let body = answer.body().clone().unwrap_or_default();
            Err((answer.status().as_u16(), String::from_utf8(body).unwrap()))
        }
        Err(error) => panic!("{error}"),
    }
}

/// Everything that comes until the goodbye, by channel.
async fn drain(socket: &mut Socket) -> [Vec<u8>; 4] {
    let mut channels: [Vec<u8>; 4] = Default::default();
    let read = async {
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Binary(bytes) => {
                    channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
                }
                Message::Close(_) => return,
                _ => {}
            }
        }
        panic!("the connection broke off");
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    channels
}

fn say(channel: u8, text: &[u8]) -> Message {
    Message::binary([&[channel], text].concat())
}

#[tokio::test]
async fn streams_exit_codes_and_sizes_travel() {
    let server = Server::start().await;
    create_pod(&server, &["main"]).await;
    let path = "exec?command=sh&command=-c&command=echo+$CONTAINER;cat;echo+no+%3E%262;exit+7\
                &stdin=true&stdout=true&stderr=true";
    let mut socket = open(&server, path, "v5.channel.k8s.io").await.unwrap();
    socket.send(say(4, br#"{"Width":80,"Height":24}"#)).await.unwrap();
    socket.send(say(0, b"typed\n")).await.unwrap();
    socket.send(Message::binary(vec![255, 0])).await.unwrap();
    let [_, out, err, end] = drain(&mut socket).await;
    assert_eq!(String::from_utf8(out).unwrap(), "main\ntyped\n");
    assert_eq!(err, b"no\n");
    let end: Value = serde_json::from_slice(&end).unwrap();
    assert_eq!(end["reason"], "NonZeroExitCode");
    assert_eq!(end["details"]["causes"][0], json!({"reason": "ExitCode", "message": "7"}));
    assert_eq!(server.node.pods.sizes(), [(24, 80)]);
    drop(socket);
    eventually("the end of the conversation", || server.node.pods.open() == 0).await;
}

#[tokio::test]
async fn what_cannot_be_entered_is_refused_with_a_reason() {
    let server = Server::start().await;
    create_pod(&server, &["main", "side"]).await;
    let v5 = "v5.channel.k8s.io";
    for (path, code, reason) in [
        ("exec?command=id&stdout=true", 400, "choose one of: [main side]"),
        ("exec?command=id&stdout=true&container=none", 400, "container none is not valid"),
        ("exec?command=id&container=main", 400, "at least 1 of stdin, stdout, stderr"),
        ("exec?command=/no/such&stdout=true&container=main", 400, "/no/such"),
    ] {
        let (answered, body) = open(&server, path, v5).await.unwrap_err();
        assert_eq!(answered, code, "{path}: {body}");
        assert!(body.contains(reason), "{path}: {body}");
    }
    let path = "exec?command=id&stdout=true&container=main";
    let (code, body) = open(&server, path, "channel.k8s.io").await.unwrap_err();
    assert_eq!(code, 403, "{body}");
    let plain = server.get("/api/v1/namespaces/default/pods/web/exec?container=main").await;
    assert_eq!(plain.0, 400, "{plain:?}");
    // A caller cannot choose another pod's uid or slip past the check of the container.
    let path = "exec?uid=other&container=main&command=sh&command=-c&command=echo+$CONTAINER\
                &stdout=true";
    let mut socket = open(&server, path, v5).await.unwrap();
    assert_eq!(drain(&mut socket).await[1], b"main\n");
}

#[tokio::test]
async fn strangers_and_nodes_are_not_let_in() {
    let server = Server::start_as(Some(("jane", "dev"))).await;
    create_pod(&server, &["main"]).await;
    let path = "exec?command=id&stdout=true";
    let (code, body) = open(&server, path, "v5.channel.k8s.io").await.unwrap_err();
    assert_eq!(code, 403);
    assert!(body.contains("cannot get resource \\\"pods/exec\\\""), "{body}");
    // A node may read everything, and reading is not entering.
    let server = Server::start_as(Some(("system:node:n1", "system:nodes"))).await;
    create_pod(&server, &["main"]).await;
    let (code, body) = open(&server, path, "v5.channel.k8s.io").await.unwrap_err();
    assert_eq!(code, 403);
    assert!(body.contains("cannot create resource \\\"pods/exec\\\""), "{body}");
    // And a node's own door opens to control nodes alone.
    for groups in [&["system:nodes"][..], &["system:masters"], &[]] {
        let node = TestNode::start_for(groups).await;
        let url = format!("http://{}/holdfast/v1/pods/default/web/exec", node.address);
        assert_eq!(reqwest::get(url).await.unwrap().status(), 403, "{groups:?}");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    let server = Server::start().await;
    create_pod(&server, &["main"]).await;
    let mut sockets = Vec::new();
    for number in 0..100 {
        // Every other one is stuck: a process that never reads what it is told.
        let command = if number % 2 == 0 { "cat" } else { "sleep&command=600" };
        let path = format!("exec?command={command}&stdin=true&stdout=true&stderr=true");
        let mut socket = open(&server, &path, "v4.channel.k8s.io").await.unwrap();
        for _ in 0..8 {
            let stuffed = socket.send(say(0, &[b'x'; 32 * 1024]));
            let _ = tokio::time::timeout(Duration::from_millis(20), stuffed).await;
        }
        sockets.push(socket);
    }
    assert_eq!(server.node.pods.open(), 100);
    drop(sockets);
    eventually("the end of all conversations", || server.node.pods.open() == 0).await;
    assert_eq!(server.node.pods.hung_up(), 100);
}

/// A service on the loopback that answers each line with it, upside down.
async fn reversing_service() -> (u16, tokio::task::JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let line: String = line.chars().rev().collect();
                    if write.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, tasks)
}

#[tokio::test]
async fn ports_are_forwarded_over_plain_channels() {
    let server = Server::start().await;
    create_pod(&server, &["main"]).await;
    let (port, _service) = reversing_service().await;
    let path = format!("portforward?ports={port}");
    let mut socket = open(&server, &path, "v4.channel.k8s.io").await.unwrap();
    socket.send(say(0, b"abc\n")).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"cba\n") {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
        let bytes = message.unwrap().unwrap().into_data();
        if bytes.first() == Some(&0) {
            heard.extend_from_slice(&bytes[1..]);
        }
    }
    assert_eq!(heard[..2], port.to_le_bytes());
}

#[tokio::test]
async fn a_conversation_ends_with_the_session_that_began_it() {
    let ended = CancellationToken::new();
    let end = SessionEnd::new(ended.clone(), Duration::from_secs(3_600));
    let admin = Some(("admin", "system:masters"));
    let server = Server::start_behind(admin, |app| app.layer(Extension(end))).await;
    create_pod(&server, &["main"]).await;
    let path = "exec?command=cat&stdin=true&stdout=true";
    let mut socket = open(&server, path, "v5.channel.k8s.io").await.unwrap();
    socket.send(say(0, b"typed\n")).await.unwrap();
    let heard = async {
        let mut heard = Vec::new();
        while heard != b"typed\n" {
            let bytes = socket.next().await.unwrap().unwrap().into_data();
            if bytes.first() == Some(&1) {
                heard.extend_from_slice(&bytes[1..]);
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap();
    ended.cancel();
    let over = async { while let Some(Ok(_)) = socket.next().await {} };
    tokio::time::timeout(PATIENCE, over).await.unwrap();
    let pods = server.node.pods.clone();
    eventually("the end of the process", || pods.open() == 0).await;
}

#[tokio::test]
async fn kubectl_runs_commands() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.create_running_pod().await;
    for websockets in ["true", "false"] {
        let mut command = kubectl.command(&["exec", "-i", "web", "--", "sh", "-c", "cat; exit 3"]);
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let long = "0123456789".repeat(100_000);
        input.write_all(long.as_bytes()).await.unwrap();
        drop(input);
        let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        let errors = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(3), "websockets {websockets}: {errors}");
        assert_eq!(done.stdout, long.as_bytes(), "websockets {websockets}: {errors}");
        assert!(errors.contains("command terminated with exit code 3"), "{errors}");
    }
    assert_eq!(kubectl.server.node.pods.upgrades(), ["websocket", "SPDY/3.1"]);
    let attached = kubectl.run_with(&["attach", "-i", "web"], "to the process\n").await;
    assert!(attached.contains("to the process"), "{attached}");
    let pods = kubectl.server.node.pods.clone();
    eventually("the end of all conversations", || pods.open() == 0).await;
}

#[tokio::test]
async fn kubectl_copies_both_ways() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.create_running_pod().await;
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_string_lossy().into_owned();
    let bytes: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(at("here"), &bytes).unwrap();
    kubectl.run(&["cp", &at("here"), &format!("web:{}", at("there"))]).await;
    assert!(std::fs::read(at("there")).unwrap() == bytes, "the copy in the pod differs");
    kubectl.run(&["cp", &format!("web:{}", at("there")), &at("back")]).await;
    assert!(std::fs::read(at("back")).unwrap() == bytes, "the copy from the pod differs");
}

#[tokio::test]
async fn kubectl_forwards_ports() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.create_running_pod().await;
    let (port, _service) = reversing_service().await;
    for websockets in ["true", "false"] {
        let mut command = kubectl.command(&["port-forward", "web", &format!(":{port}")]);
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        let line = line.unwrap_or_default();
        let local = line.split_whitespace().nth(2).unwrap_or_default().to_owned();
        for round in 0..20 {
            let mut stream = TcpStream::connect(&local).await.expect(&line);
            stream.write_all(format!("round {round}\n").as_bytes()).await.unwrap();
            let mut heard = String::new();
            let read = BufReader::new(&mut stream).read_line(&mut heard).await;
            read.unwrap();
            let wanted: String = format!("round {round}").chars().rev().collect();
            assert_eq!(heard.trim(), wanted, "websockets {websockets}");
        }
        child.kill().await.unwrap();
    }
    assert_eq!(kubectl.server.node.pods.upgrades(), ["websocket", "SPDY/3.1"]);
    // Nobody listens on the port: kubectl hears why.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    let mut child = kubectl.command(&["port-forward", "web", &format!(":{port}")]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
    let line = line.unwrap_or_default();
    let local = line.split_whitespace().nth(2).unwrap_or_default().to_owned();
    let mut stream = TcpStream::connect(&local).await.unwrap();
    let mut nothing = Vec::new();
    let _ = stream.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty());
    let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(errors.contains("error forwarding port"), "{errors}");
}

#[tokio::test]
async fn kubectl_debug_adds_a_container_that_stays() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.create_running_pod().await;
    let debug = ["debug", "web", "--image=tools:1", "--target=hello", "-c", "look", "--", "id"];
    kubectl.run(&debug).await;
    let path = "/api/v1/namespaces/default/pods/web";
    let (_, pod) = kubectl.server.get(path).await;
    let look = &pod["spec"]["ephemeralContainers"][0];
    assert_eq!((&look["name"], &look["targetContainerName"]), (&json!("look"), &json!("hello")));
    assert_eq!(look["terminationMessagePolicy"], "File");
    let part = format!("{path}/ephemeralcontainers");
    assert_eq!(kubectl.server.get(&part).await.1["kind"], "Pod");
    // Neither changed nor taken out again, and nothing else is changed by this way.
    let mut without = pod.clone();
    without["spec"]["ephemeralContainers"] = json!([]);
    let (code, refused) = kubectl.server.send(http::Method::PUT, &part, without).await;
    assert_eq!(code, 422, "{refused}");
    let mut other = pod.clone();
    other["spec"]["ephemeralContainers"][0]["image"] = json!("other:1");
    assert_eq!(kubectl.server.send(http::Method::PUT, &part, other).await.0, 422);
    let mut more = pod.clone();
    more["metadata"]["labels"] = json!({"sneaked": "in"});
    let (code, now) = kubectl.server.send(http::Method::PUT, &part, more).await;
    assert_eq!((code, &now["metadata"]["labels"]), (200, &pod["metadata"]["labels"]));
}

/// A node that looks into the audit log when somebody comes.
#[derive(Debug)]
struct Doorkeeper {
    objects: Arc<Objects>,
    seen: Mutex<Vec<Value>>,
}

#[async_trait]
impl PodStreams for Doorkeeper {
    async fn open(&self, _: &str, _: &str, _: HeaderMap) -> Result<OpenedStream, Status> {
        self.objects.chain_audit().await.unwrap();
        let page = self.objects.audit_page(&Default::default()).await.unwrap();
        let mut seen = self.seen.lock().unwrap();
        seen.extend(page.items.into_iter().map(|item| item.record));
        Err(Status::unavailable("the node is away"))
    }
}

#[tokio::test]
async fn who_enters_a_pod_is_recorded_before_the_door_opens() {
    let server = Server::start().await;
    create_pod(&server, &["main"]).await;
    let keeper = Arc::new(Doorkeeper { objects: server.objects.clone(), seen: Mutex::default() });
    let state = KubeState {
        objects: server.objects.clone(),
        logs: Arc::new(EchoLogs),
        usage: server.usage.clone(),
        streams: keeper.clone(),
        conversations: TaskTracker::new(),
    };
    let kind = kinds::by_path("", "v1", "pods").unwrap();
    let jane = Identity::new("jane", &[]).authenticated();
    let origin = Origin { uri: "/exec?command=sh".into(), ..Origin::default() };
    let author = Author::new(jane, None, origin, "create", kind, Some(Subresource::Exec));
    let author = author.about(Some("default"), Some("web"));
    let request = StreamRequest {
        action: Action::Exec,
        options: &Options::default(),
        query: "command=sh",
        headers: &HeaderMap::new(),
        author: Some(&author),
    };
    let mut asked = http::Request::new(axum::body::Body::empty());
    let handover = streams::Handover::of(&mut asked);
    let pod = Address::new(kind, Some("default"), "web");
    let refused = streams::serve(&state, &pod, request, handover).await.unwrap_err();
    assert_eq!(refused.code, 503);
    let seen = keeper.seen.lock().unwrap();
    let entry = seen.iter().find(|record| record["subresource"] == "exec").unwrap();
    assert_eq!(entry["actor"]["user"], "jane");
    assert_eq!(entry["uri"], "/exec?command=sh");
}
