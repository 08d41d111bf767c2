//! Network policies on real packets: a matrix of who reaches whom.

use super::*;

fn policy(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

/// `a>b` for everybody who reaches somebody at port 8080.
async fn matrix(ends: &[(&str, i32)], pods: &[Pod]) -> BTreeSet<String> {
    let asks = ends.iter().flat_map(|(name, pid)| {
        pods.iter().map(move |pod| async move {
            let heard = ask(*pid, SocketAddr::new(pod.address, 8080)).await;
            heard.is_ok().then(|| format!("{name}>{}", pod.name))
        })
    });
    futures::future::join_all(asks).await.into_iter().flatten().collect()
}

#[tokio::test]
async fn policies_open_and_close_by_labels_blocks_and_ports() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    // web and db on different nodes, other beside web.
    let mut pods = Vec::new();
    for (node, name) in [(0, "web"), (1, "db"), (0, "other")] {
        let pod = hosts.pod(node, name).await;
        hosts.serve(&pod);
        pods.push(pod);
    }
    let outside = hosts.outsider().await;
    hosts.route_pods(outside);
    let ends = [
        ("web", pods[0].pid),
        ("db", pods[1].pid),
        ("other", pods[2].pid),
        ("out", outside),
        ("n1", hosts.pid(0)),
        ("n2", hosts.pid(1)),
    ];
    let all: Vec<String> = ends
        .iter()
        .flat_map(|(from, _)| ["web", "db", "other"].map(|to| format!("{from}>{to}")))
        .collect();
    let without = |gone: &[&str]| -> BTreeSet<String> {
        all.iter().filter(|one| !gone.contains(&one.as_str())).cloned().collect()
    };
    eventually("all is open", async || matrix(&ends, &pods).await == without(&[])).await;

    // Nobody may come to db but its own node and itself.
    hosts.api.put(
        "networkpolicies",
        policy(
            "db",
            json!({
        "podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]}),
        ),
    );
    let shut = ["web>db", "other>db", "out>db", "n1>db"];
    eventually("db is closed", async || matrix(&ends, &pods).await == without(&shut)).await;
    // A second one adds web, another the outsider, but for its port 80 alone.
    hosts.api.put(
        "networkpolicies",
        policy(
            "db-web",
            json!({
        "podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
             "ports": [{"protocol": "TCP", "port": 8000, "endPort": 8090}]},
            {"from": [{"ipBlock": {"cidr": "192.168.77.0/24", "except": ["192.168.77.1/32"]}}],
             "ports": [{"protocol": "TCP", "port": 80}]}]}),
        ),
    );
    let shut = ["other>db", "out>db", "n1>db"];
    eventually("web may come", async || matrix(&ends, &pods).await == without(&shut)).await;
    hosts.api.put(
        "networkpolicies",
        policy(
            "db-block",
            json!({
        "podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [
            {"ipBlock": {"cidr": "192.168.77.0/24", "except": ["192.168.77.1/32"]}}]}]}),
        ),
    );
    let shut = ["other>db", "n1>db"];
    eventually("the block may come", async || matrix(&ends, &pods).await == without(&shut)).await;
    // What web sends is bounded on web's node: only to db, by its port's name.
    hosts.api.put(
        "networkpolicies",
        policy(
            "web-out",
            json!({
        "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"namespaceSelector": {"matchLabels": {"kind": "shops"}}}],
                    "ports": [{"protocol": "TCP", "port": "http"}]}]}),
        ),
    );
    let before: BTreeSet<String> = without(&["other>db", "n1>db"]);
    eventually("by name all are reached", async || matrix(&ends, &pods).await == before).await;
    hosts.api.put(
        "networkpolicies",
        policy(
            "web-out",
            json!({
        "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]}),
        ),
    );
    let shut = ["other>db", "n1>db", "web>db", "web>other"];
    eventually("web sends nothing", async || matrix(&ends, &pods).await == without(&shut)).await;

    // Through its Service a pod is the same pod.
    hosts.api.put("services", service("db", "10.96.0.30"));
    hosts.api.put("endpointslices", slice("db", &[pods[1].address]));
    let target: SocketAddr = "10.96.0.30:80".parse().unwrap();
    eventually("the node of db is led on", async || ask(hosts.pid(1), target).await.is_ok()).await;
    // Its address is refused until the other's node knows it.
    eventually("the other's node leads it to db", async || {
        ask(pods[2].pid, target).await != Err("ConnectionRefused".into())
    })
    .await;
    assert_eq!(ask(pods[2].pid, target).await, Err("timeout".into()));
}

#[tokio::test]
async fn a_new_pod_is_never_open_before_its_rules_and_old_connections_stay() {
    if !is_root() {
        return;
    }
    use tokio::io::AsyncWriteExt;
    let mut hosts = Hosts::start().await;
    let (server, client) = (hosts.pod(0, "server").await, hosts.pod(1, "client").await);
    let netns = crate::sys::in_netns::NetNs::of_process(server.pid).unwrap();
    let echo = || async {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:9000").await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    };
    let tasks = TaskTracker::new();
    let server_task = tasks.spawn(async move { netns.run(echo).await.unwrap() });
    let (shut, mut is_shut) = tokio::sync::watch::channel(false);
    let (open, mut is_open) = tokio::sync::watch::channel(false);
    let netns = crate::sys::in_netns::NetNs::of_process(client.pid).unwrap();
    let address = server.address;
    let talk = move || async move {
        let mut stream = loop {
            match tokio::net::TcpStream::connect((address, 9000)).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        for round in 0..2 {
            stream.write_all(b"?").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'?');
            if round == 0 {
                open.send_replace(true);
                is_shut.wait_for(|shut| *shut).await.unwrap();
            }
        }
    };
    let client_task = tasks.spawn(async move { netns.run(talk).await.unwrap() });
    is_open.wait_for(|open| *open).await.unwrap();
    hosts.api.put(
        "networkpolicies",
        policy(
            "none",
            json!({
        "podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        ),
    );
    hosts.serve(&server);
    let target = SocketAddr::new(server.address, 8080);
    eventually("it is closed to new ones", async || {
        ask(client.pid, target).await == Err("timeout".into())
    })
    .await;
    shut.send_replace(true);
    client_task.await.unwrap();
    server_task.await.unwrap();

    // A pod that comes now is closed in the moment in which its link stands.
    let young = hosts.pod(0, "young").await;
    hosts.serve(&young);
    let target = SocketAddr::new(young.address, 8080);
    eventually("its own node reaches it", async || ask(hosts.pid(0), target).await.is_ok()).await;
    assert_eq!(ask(client.pid, target).await, Err("timeout".into()));
}
