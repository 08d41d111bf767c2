//! The network for real: two nodes and their pods as network namespaces of this machine.
//!
//! Every namespace belongs to a process that the test started; when the test ends, also
//! by a panic, those processes are killed and the kernel removes links, routes and rules
//! with the namespaces. Needs root; says so and passes where it is not.

mod fake_api;
mod hosts;
mod ingress;
mod outside;
mod policies;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio_util::task::TaskTracker;

use hosts::{Hosts, Pod, eventually, is_root};

fn service(name: &str, address: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"},
           "spec": {"clusterIP": address, "ports": [{"name": "http", "port": 80}]}})
}

fn slice(name: &str, addresses: &[IpAddr]) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({"addresses": [address.to_string()]})).collect();
    json!({"metadata": {"name": name, "namespace": "shop",
                        "labels": {"kubernetes.io/service-name": name}},
           "addressType": "IPv4", "endpoints": endpoints,
           "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]})
}

/// What the server at `target` says, as heard from inside `pid`'s namespace.
async fn ask(from: i32, target: SocketAddr) -> Result<String, String> {
    ask_as(from, Ipv4Addr::UNSPECIFIED, target).await
}

/// The same, as a client with a certain address.
async fn ask_as(from: i32, client: Ipv4Addr, target: SocketAddr) -> Result<String, String> {
    let netns = crate::sys::in_netns::NetNs::of_process(from).unwrap();
    let work = move || async move {
        let exchange = async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind((client, 0).into())?;
            let mut stream = socket.connect(target).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            std::io::Result::Ok(text)
        };
        match tokio::time::timeout(Duration::from_secs(2), exchange).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) => Err(format!("{:?}", error.kind())),
            Err(_) => Err("timeout".to_owned()),
        }
    };
    netns.run(work).await.unwrap()
}

/// Everybody who answers `count` times asking.
async fn answers(from: i32, target: SocketAddr, count: usize) -> BTreeSet<String> {
    let mut heard = BTreeSet::new();
    for _ in 0..count {
        heard.insert(ask(from, target).await.unwrap_or_else(|error| error));
    }
    heard
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[tokio::test]
async fn pods_reach_each_other_across_nodes_with_their_own_addresses() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    let p1 = hosts.pod(0, "p1").await;
    let p2 = hosts.pod(0, "p2").await;
    let p3 = hosts.pod(1, "p3").await;
    for pod in [&p1, &p2, &p3] {
        hosts.serve(pod);
    }
    let node = hosts.pid(0);
    for (from, to) in [(p1.pid, &p2), (p1.pid, &p3), (p3.pid, &p1), (node, &p1), (node, &p3)] {
        let target = SocketAddr::new(to.address, 8080);
        eventually(&format!("{} answers", to.name), async || {
            ask(from, target).await.is_ok_and(|text| text.starts_with(&to.name))
        })
        .await;
    }
    // The server names the address it saw: nothing is translated between pods.
    let heard = ask(p1.pid, SocketAddr::new(p3.address, 8080)).await.unwrap();
    assert_eq!(heard, format!("p3 saw {}", p1.address));
    let heard = ask(node, SocketAddr::new(p3.address, 8080)).await.unwrap();
    assert_eq!(heard, "p3 saw 192.168.77.1");
}

#[tokio::test]
async fn a_service_balances_for_pods_and_hosts_and_follows_its_endpoints() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    let p1 = hosts.pod(0, "p1").await;
    let p2 = hosts.pod(1, "p2").await;
    hosts.serve(&p1);
    hosts.serve(&p2);
    hosts.api.put("services", service("web", "10.96.0.20"));
    hosts.api.put("services", service("empty", "10.96.0.21"));
    hosts.api.put("endpointslices", slice("web", &[p1.address, p2.address]));
    let web: SocketAddr = "10.96.0.20:80".parse().unwrap();
    let names = |heard: BTreeSet<String>| -> BTreeSet<String> {
        heard.iter().map(|text| text.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    for from in [p1.pid, p2.pid, hosts.pid(0), hosts.pid(1)] {
        eventually("both endpoints answer", async || {
            names(answers(from, web, 12).await) == set(&["p1", "p2"])
        })
        .await;
    }
    // No endpoint, no such port, no such Service: refused at once, for pods and hosts.
    for target in ["10.96.0.21:80", "10.96.0.20:81", "10.96.7.7:80"] {
        for from in [p1.pid, hosts.pid(0)] {
            let refused = ask(from, target.parse().unwrap()).await;
            assert_eq!(refused, Err("ConnectionRefused".into()), "{target}");
        }
    }
    // One endpoint goes: within a second nobody reaches it any more.
    let changed = std::time::Instant::now();
    hosts.api.put("endpointslices", slice("web", &[p2.address]));
    for from in [p1.pid, hosts.pid(0), hosts.pid(1)] {
        eventually("only p2 answers", async || names(answers(from, web, 8).await) == set(&["p2"]))
            .await;
    }
    let took = changed.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    hosts.api.put("endpointslices", slice("web", &[]));
    eventually("nobody answers", async || {
        ask(p1.pid, web).await == Err("ConnectionRefused".into())
    })
    .await;
}

#[tokio::test]
async fn a_pod_reaches_itself_through_its_service() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    let pod = hosts.pod(0, "p1").await;
    hosts.serve(&pod);
    hosts.api.put("services", service("web", "10.96.0.20"));
    hosts.api.put("endpointslices", slice("web", &[pod.address]));
    eventually("the pod answers itself", async || {
        ask(pod.pid, "10.96.0.20:80".parse().unwrap()).await == Ok("p1 saw 192.168.77.1".to_owned())
    })
    .await;
}

#[tokio::test]
async fn attach_is_repeatable_and_detach_leaves_nothing() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    let pod = hosts.pod(0, "p1").await;
    let again = hosts.attach(0, "p1", pod.pid).await;
    assert_eq!(again, pod.address);
    hosts.serve(&pod);
    let target = SocketAddr::new(pod.address, 8080);
    eventually("the pod answers", async || ask(hosts.pid(0), target).await.is_ok()).await;

    // A new sandbox of the same pod takes the address along.
    let moved = hosts.sandbox();
    assert_eq!(hosts.attach(0, "p1", moved).await, pod.address);
    assert_eq!(hosts.links(0).len(), 1);

    let net = hosts.net(0);
    let netns = hosts.netns(0);
    assert_eq!(net.attached().await, vec!["p1"]);
    for _ in 0..2 {
        let net = net.clone();
        netns.run(|| async move { net.detach("p1").await }).await.unwrap().unwrap();
    }
    assert!(net.attached().await.is_empty());
    assert_eq!(hosts.links(0), Vec::<String>::new());
    // The address cools down: another pod gets another one.
    let other = hosts.pod(0, "p9").await;
    assert_ne!(other.address, pod.address);
}

async fn resolve(from: i32, name: &str, kind: RecordType, tcp: bool) -> Option<Message> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let bytes = message.to_vec().unwrap();
    let server: SocketAddr = "10.96.0.10:53".parse().unwrap();
    let netns = crate::sys::in_netns::NetNs::of_process(from).unwrap();
    let work = move || async move {
        use tokio::io::AsyncWriteExt;
        let exchange = async {
            if tcp {
                let mut stream = tokio::net::TcpStream::connect(server).await?;
                stream.write_u16(bytes.len() as u16).await?;
                stream.write_all(&bytes).await?;
                let mut answer = vec![0; usize::from(stream.read_u16().await?)];
                stream.read_exact(&mut answer).await?;
                return std::io::Result::Ok(answer);
            }
            let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await?;
            socket.connect(server).await?;
            socket.send(&bytes).await?;
            let mut answer = vec![0; 4096];
            let length = socket.recv(&mut answer).await?;
            answer.truncate(length);
            Ok(answer)
        };
        tokio::time::timeout(Duration::from_secs(5), exchange).await.ok()?.ok()
    };
    let answer = netns.run(work).await.unwrap()?;
    Some(Message::from_vec(&answer).unwrap())
}

#[tokio::test]
async fn names_resolve_from_pods_and_hosts_and_nothing_is_forwarded() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    let pod = hosts.pod(0, "p1").await;
    hosts.api.put("services", service("web", "10.96.0.20"));
    let name = "web.shop.svc.cluster.local.";
    let expected = RData::A(Ipv4Addr::new(10, 96, 0, 20).into());
    for (from, tcp) in [(pod.pid, false), (pod.pid, true), (hosts.pid(1), false)] {
        eventually("the Service's name resolves", async || {
            // Refused until the server listens.
            let Some(answer) = resolve(from, name, RecordType::A, tcp).await else { return false };
            answer.answers.first().is_some_and(|record| record.data == expected && record.ttl == 5)
        })
        .await;
    }
    let code = async |name: &str, kind| {
        let answer = resolve(pod.pid, name, kind, false).await.unwrap();
        (answer.metadata.response_code, answer.metadata.authoritative, answer.answers.len())
    };
    assert_eq!(code(name, RecordType::AAAA).await, (ResponseCode::NoError, true, 0));
    let missing = "missing.shop.svc.cluster.local.";
    assert_eq!(code(missing, RecordType::A).await, (ResponseCode::NXDomain, true, 0));
    assert_eq!(code("example.com.", RecordType::A).await, (ResponseCode::NXDomain, false, 0));
    assert_eq!(
        code("20.0.96.10.in-addr.arpa.", RecordType::PTR).await,
        (ResponseCode::NoError, true, 1)
    );
}

/// The agent calls these from a multi-threaded runtime and through a boxed trait.
#[test]
fn the_agents_calls_can_move_between_threads() {
    fn check<T: Send>(_: impl FnOnce(&'static crate::network::PodNet) -> T) {}
    check(|net| net.attach("uid", 1));
    check(|net| net.detach("uid"));
    check(|net| net.attached());
}
