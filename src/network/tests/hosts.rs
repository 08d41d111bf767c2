//! Two nodes, joined by a wire, with pods.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fake_api::FakeApi;
use crate::model::node_config::ClusterNetwork;
use crate::network::{Network, NetworkConfig, PodNet};
use crate::sys::in_netns::NetNs;

const NFT: &str = "/usr/sbin/nft";

pub(super) fn is_root() -> bool {
    let able = nix::unistd::geteuid().is_root() && Path::new(NFT).exists();
    if !able {
        eprintln!("skipped: needs root and {NFT}");
    }
    able
}

/// Waits for a condition with a generous deadline.
pub(super) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A process with a network namespace of its own.
#[derive(Debug)]
struct Sandbox(Child);

impl Sandbox {
    fn start() -> Self {
        let child = Command::new("unshare")
            .args(["-n", "sleep", "600"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let sandbox = Self(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        let comm = format!("/proc/{}/comm", sandbox.pid());
        // It is called `sleep` once the namespace has been made.
        while std::fs::read_to_string(&comm).unwrap().trim() != "sleep" {
            assert!(Instant::now() < deadline, "unshare did not start");
            std::thread::yield_now();
        }
        sandbox
    }

    fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn ip(pid: i32, arguments: &str) -> String {
    let output = Command::new("nsenter")
        .args(["-t", &pid.to_string(), "-n", "ip"])
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Connects a namespace to the segment by its link `wire`.
fn plug(switch: i32, pid: i32, index: u8) {
    ip(switch, &format!("link add port{index} type veth peer name wire netns {pid}"));
    ip(switch, &format!("link set port{index} master switch up"));
}

pub(super) struct Pod {
    pub(super) name: String,
    pub(super) pid: i32,
    pub(super) address: IpAddr,
}

pub(super) struct Hosts {
    pub(super) api: Arc<FakeApi>,
    nets: Vec<Arc<PodNet>>,
    tasks: JoinSet<()>,
    cancel: CancellationToken,
    nodes: Vec<Sandbox>,
    segment: Sandbox,
    pods: Vec<Sandbox>,
    _data: tempfile::TempDir,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // Ends the threads that hold the namespaces open.
        self.cancel.cancel();
    }
}

impl Hosts {
    pub(super) async fn start() -> Self {
        let nodes = vec![Sandbox::start(), Sandbox::start()];
        let (a, b) = (nodes[0].pid(), nodes[1].pid());
        // The segment: a switch in a namespace of its own.
        let segment = Sandbox::start();
        let switch = segment.pid();
        ip(switch, "link add switch type bridge");
        ip(switch, "link set switch up");
        for (index, pid) in [(1, a), (2, b)] {
            plug(switch, pid, index);
            ip(pid, "link set lo up");
            ip(pid, &format!("addr add 192.168.77.{index}/24 dev wire"));
            ip(pid, "link set wire up");
        }
        let api = Arc::new(FakeApi::new());
        for index in [1, 2] {
            api.put(
                "nodes",
                json!({"metadata": {"name": format!("n{index}")},
                       "spec": {"podCIDR": format!("10.1.{index}.0/24")},
                       "status": {"addresses": [
                           {"type": "InternalIP", "address": format!("192.168.77.{index}")}]}}),
            );
        }
        api.put("namespaces", json!({"metadata": {"name": "shop", "labels": {"kind": "shops"}}}));
        let data = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let mut nets = Vec::new();
        for (index, node) in (1..).zip(&nodes) {
            let config = NetworkConfig {
                node_name: format!("n{index}"),
                node_address: format!("192.168.77.{index}").parse().unwrap(),
                pod_range: format!("10.1.{index}.0/24").parse().unwrap(),
                cluster: ClusterNetwork {
                    pod_range: "10.1.0.0/16".parse().unwrap(),
                    service_range: "10.96.0.0/16".parse().unwrap(),
                    cluster_domain: "cluster.local".into(),
                },
                data_dir: data.path().join(index.to_string()),
                nft: NFT.into(),
            };
            let network = Network::new(config, api.clone()).unwrap();
            nets.push(network.pod_net());
            let (netns, cancel) = (NetNs::of_process(node.pid()).unwrap(), cancel.clone());
            tasks.spawn(async move { netns.run(|| network.run(cancel)).await.unwrap() });
        }
        Self { api, nets, tasks, cancel, nodes, segment, pods: Vec::new(), _data: data }
    }

    pub(super) fn pid(&self, node: usize) -> i32 {
        self.nodes[node].pid()
    }

    pub(super) fn netns(&self, node: usize) -> NetNs {
        NetNs::of_process(self.pid(node)).unwrap()
    }

    pub(super) fn net(&self, node: usize) -> Arc<PodNet> {
        self.nets[node].clone()
    }

    /// A machine of the segment that is no part of the cluster, with many addresses.
    pub(super) async fn outsider(&mut self) -> i32 {
        let pid = self.sandbox();
        plug(self.segment.pid(), pid, 9);
        ip(pid, "link set lo up");
        ip(pid, "link set wire up");
        for index in std::iter::once(9).chain(20..40) {
            ip(pid, &format!("addr add 192.168.77.{index}/24 dev wire"));
        }
        pid
    }

    /// Lets a machine of the segment send to pods directly, as the bank's routers would.
    pub(super) fn route_pods(&self, pid: i32) {
        for index in [1, 2] {
            ip(pid, &format!("route add 10.1.{index}.0/24 via 192.168.77.{index}"));
        }
    }

    /// All rules that a node has.
    pub(super) fn rules(&self, node: usize) -> String {
        let output = Command::new("nsenter")
            .args(["-t", &self.pid(node).to_string(), "-n", NFT, "list", "ruleset"])
            .output()
            .unwrap();
        assert!(output.status.success(), "nft list ruleset: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A node's addresses on the segment.
    pub(super) fn addresses(&self, node: usize) -> Vec<String> {
        let text = ip(self.pid(node), "-o -4 addr show dev wire");
        let words = text.lines().filter_map(|line| line.split_whitespace().nth(3));
        words.filter_map(|word| word.split('/').next()).map(str::to_owned).collect()
    }

    /// A new, unconnected pod sandbox.
    pub(super) fn sandbox(&mut self) -> i32 {
        self.pods.push(Sandbox::start());
        self.pods.last().unwrap().pid()
    }

    pub(super) async fn attach(&self, node: usize, uid: &str, pid: i32) -> IpAddr {
        let (net, uid) = (self.net(node), uid.to_owned());
        let mut object = json!({
            "metadata": {"name": uid, "namespace": "shop", "uid": uid, "labels": {"app": uid}},
            "spec": {"nodeName": format!("n{}", node + 1), "containers": [{"ports": [
                {"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]}});
        self.api.put("pods", object.clone());
        let netns = self.netns(node);
        let attached = netns.run(move || async move { net.attach(&uid, pid).await }).await;
        let address = attached.unwrap().unwrap();
        object["status"] = json!({"podIP": address.to_string(), "phase": "Running"});
        self.api.put("pods", object);
        address
    }

    pub(super) async fn pod(&mut self, node: usize, name: &str) -> Pod {
        let pid = self.sandbox();
        let address = self.attach(node, name, pid).await;
        Pod { name: name.to_owned(), pid, address }
    }

    /// Names of the pods' host ends on a node.
    pub(super) fn links(&self, node: usize) -> Vec<String> {
        let text = ip(self.pid(node), "-o link show");
        let names = text.lines().filter_map(|line| line.split(": ").nth(1));
        names.filter(|name| name.starts_with("hf")).map(str::to_owned).collect()
    }

    /// Runs something in a pod until it ends or the test does.
    pub(super) fn in_pod<W, F>(&mut self, pod: &Pod, work: W)
    where
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        let (netns, cancel) = (NetNs::of_process(pod.pid).unwrap(), self.cancel.clone());
        let bounded = move || async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = work() => {}
            }
        };
        self.tasks.spawn(async move { netns.run(bounded).await.unwrap() });
    }

    /// Answers datagrams on port 8080 of the pod with its name.
    pub(super) fn serve_udp(&mut self, pod: &Pod) {
        let (name, cancel) = (pod.name.clone(), self.cancel.clone());
        let netns = NetNs::of_process(pod.pid).unwrap();
        let serve = async move || {
            let socket = tokio::net::UdpSocket::bind("0.0.0.0:8080").await.unwrap();
            let mut buffer = [0; 64];
            loop {
                let (_, peer) = tokio::select! {
                    () = cancel.cancelled() => return,
                    received = socket.recv_from(&mut buffer) => received.unwrap(),
                };
                // A client that went away is its own affair.
                let _ = socket.send_to(name.as_bytes(), peer).await;
            }
        };
        self.tasks.spawn(async move { netns.run(serve).await.unwrap() });
    }

    /// Answers on port 8080 of the pod with its name and who asked.
    pub(super) fn serve(&mut self, pod: &Pod) {
        let (name, cancel) = (pod.name.clone(), self.cancel.clone());
        let netns = NetNs::of_process(pod.pid).unwrap();
        let serve = async move || {
            let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await.unwrap();
            loop {
                let accepted = tokio::select! {
                    () = cancel.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let (mut stream, peer) = accepted.unwrap();
                // A client that went away is its own affair.
                let _ = stream.write_all(format!("{name} saw {}", peer.ip()).as_bytes()).await;
            }
        };
        self.tasks.spawn(async move { netns.run(serve).await.unwrap() });
    }
}
