//! Services as the outside meets them: ports of nodes, load balancers, clients that stay.

use super::*;

/// A Service `web` whose only endpoints are the named ones, by node.
fn put(hosts: &Hosts, spec: Value, ingress: Value, endpoints: &[(IpAddr, &str)]) {
    let announced = spec["announced"].as_str().unwrap_or_default();
    let mut object = json!({"metadata": {"name": "web", "namespace": "shop",
            "annotations": {"holdfast.io/announced-by": announced}},
        "spec": {"clusterIP": "10.96.0.20", "ports": [
            {"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"},
            {"name": "udp", "port": 80, "nodePort": 30081, "protocol": "UDP"}]},
        "status": {"loadBalancer": {"ingress": ingress}}});
    for (field, value) in
        spec.as_object().unwrap().iter().filter(|(field, _)| *field != "announced")
    {
        object["spec"][field] = value.clone();
    }
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, node)| json!({"addresses": [address.to_string()], "nodeName": node}))
        .collect();
    hosts.api.put(
        "endpointslices",
        json!({"metadata": {"name": "web", "namespace": "shop",
                            "labels": {"kubernetes.io/service-name": "web"}},
               "addressType": "IPv4", "endpoints": endpoints,
               "ports": [{"name": "http", "port": 8080, "protocol": "TCP"},
                         {"name": "udp", "port": 8080, "protocol": "UDP"}]}),
    );
    hosts.api.put("services", object);
}

#[tokio::test]
async fn ports_of_nodes_keep_or_hide_the_client_as_the_policy_says() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    let p1 = hosts.pod(0, "p1").await;
    let p2 = hosts.pod(1, "p2").await;
    hosts.serve(&p1);
    hosts.serve(&p2);
    let outside = hosts.outsider().await;
    let ends = [(p1.address, "n1"), (p2.address, "n2")];
    let first: SocketAddr = "192.168.77.1:30080".parse().unwrap();
    let second: SocketAddr = "192.168.77.2:30080".parse().unwrap();
    put(&hosts, json!({"type": "NodePort", "externalTrafficPolicy": "Cluster"}), json!([]), &ends);
    // Who is on the way hides the client, so that the answer comes back this way.
    let both = set(&["p1 saw 192.168.77.1", "p2 saw 192.168.77.1"]);
    eventually("both answer at one node", async || answers(outside, first, 12).await == both).await;
    let here = answers(p1.pid, first, 12).await;
    assert_eq!(here, set(&["p1 saw 192.168.77.1", &format!("p2 saw {}", p1.address)]));
    put(&hosts, json!({"type": "NodePort", "externalTrafficPolicy": "Local"}), json!([]), &ends);
    for (node, pod) in [(first, "p1"), (second, "p2")] {
        let only = set(&[&format!("{pod} saw 192.168.77.9")]);
        eventually("the own pod sees the client", async || answers(outside, node, 6).await == only)
            .await;
    }
    // A node without an endpoint takes nothing; its own programs are led on all the same.
    let local = json!({"type": "NodePort", "externalTrafficPolicy": "Local"});
    put(&hosts, local, json!([]), &ends[1..]);
    eventually("it takes nothing", async || ask(outside, first).await == Err("timeout".into()))
        .await;
    assert_eq!(answers(hosts.pid(0), first, 4).await, set(&["p2 saw 192.168.77.1"]));
    // Of another type, the port is the node's own again.
    put(&hosts, json!({"type": "ClusterIP"}), json!([]), &ends);
    eventually("nobody listens", async || {
        ask(outside, second).await == Err("ConnectionRefused".into())
    })
    .await;
}

#[tokio::test]
async fn a_client_stays_with_its_endpoint_while_rules_change() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    let mut ends = Vec::new();
    for name in ["p1", "p2", "p3", "p4"] {
        let pod = hosts.pod(0, name).await;
        hosts.serve(&pod);
        ends.push((pod.address, "n1"));
    }
    let outside = hosts.outsider().await;
    let sticky = json!({"type": "NodePort", "externalTrafficPolicy": "Local",
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}});
    put(&hosts, sticky.clone(), json!([]), &ends[..3]);
    let target: SocketAddr = "192.168.77.1:30080".parse().unwrap();
    eventually("it answers", async || ask(outside, target).await.is_ok()).await;
    let chosen = answers(outside, target, 12).await;
    assert_eq!(chosen.len(), 1, "{chosen:?}");
    put(&hosts, sticky.clone(), json!([]), &ends);
    // The fourth is reached by others: the new rules are there. Clients that have asked stay
    // where they are, so each try is of somebody new.
    let mut strangers = 20..40;
    eventually("the fourth answers others", async || {
        let rules = hosts.rules(0);
        if !rules.contains(&format!("dnat to {}:8080", ends[3].0)) {
            return false;
        }
        let client = strangers.next().expect("one of twenty meets the fourth");
        let client = format!("192.168.77.{client}").parse().unwrap();
        ask_as(outside, client, target).await.is_ok_and(|text| text.starts_with("p4"))
    })
    .await;
    assert_eq!(answers(outside, target, 12).await, chosen);
    let left: Vec<_> = ends
        .iter()
        .zip(["p1", "p2", "p3", "p4"])
        .filter(|(_, name)| !chosen.iter().any(|text| text.starts_with(name)))
        .map(|(end, _)| *end)
        .collect();
    put(&hosts, sticky, json!([]), &left);
    eventually("another takes over", async || {
        let now = answers(outside, target, 8).await;
        now.len() == 1 && now != chosen && !now.contains("timeout")
    })
    .await;
}

#[tokio::test]
async fn an_announced_address_answers_on_its_segment_and_moves() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    let p1 = hosts.pod(0, "p1").await;
    hosts.serve(&p1);
    let outside = hosts.outsider().await;
    let ends = [(p1.address, "n1")];
    let target: SocketAddr = "192.168.77.240:80".parse().unwrap();
    let spec = |node: &str, ranges: Value| {
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "announced": node,
               "loadBalancerSourceRanges": ranges})
    };
    let ingress = json!([{"ip": "192.168.77.240", "ipMode": "VIP"}]);
    for (node, seen) in [("n1", "192.168.77.1"), ("n2", "192.168.77.2"), ("n1", "192.168.77.1")] {
        put(&hosts, spec(node, json!([])), ingress.clone(), &ends);
        let expected = Ok(format!("p1 saw {seen}"));
        eventually(&format!("{node} answers for it"), async || {
            ask(outside, target).await == expected
        })
        .await;
    }
    assert_eq!(hosts.addresses(0).iter().filter(|one| *one == "192.168.77.240").count(), 1);
    eventually("only one node has it", async || {
        !hosts.addresses(1).iter().any(|one| one == "192.168.77.240")
    })
    .await;
    // Who is outside the ranges is not heard, at the node's port he is.
    put(&hosts, spec("n1", json!(["192.168.77.64/26"])), ingress.clone(), &ends);
    eventually("it is closed to the client", async || {
        ask(outside, target).await == Err("timeout".into())
    })
    .await;
    assert!(ask(outside, "192.168.77.1:30080".parse().unwrap()).await.is_ok());
    // Nobody there: refused at once.
    put(&hosts, spec("n1", json!([])), ingress, &[]);
    eventually("it is refused", async || {
        ask(outside, target).await == Err("ConnectionRefused".into())
    })
    .await;
    // Without an answer of the API the address goes by itself.
    hosts.api.set_silent(true);
    eventually("the silent node has let go", async || {
        !hosts.addresses(0).iter().any(|one| one == "192.168.77.240")
    })
    .await;
}

#[tokio::test]
async fn a_udp_client_that_goes_on_leaves_an_endpoint_that_is_gone() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    let p1 = hosts.pod(0, "p1").await;
    let p2 = hosts.pod(0, "p2").await;
    hosts.serve_udp(&p1);
    hosts.serve_udp(&p2);
    put(&hosts, json!({"type": "NodePort"}), json!([]), &[(p1.address, "n1")]);
    let netns = crate::sys::in_netns::NetNs::of_process(hosts.pid(0)).unwrap();
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel::<String>();
    let talk = move || async move {
        // One socket throughout: its flow is one.
        let socket = tokio::net::UdpSocket::bind("192.168.77.1:0").await.unwrap();
        let mut buffer = [0; 64];
        while !sender.is_closed() {
            let _refused = socket.send_to(b"?", "10.96.0.20:80").await;
            let answer = socket.recv_from(&mut buffer);
            if let Ok(Ok((length, _))) =
                tokio::time::timeout(Duration::from_millis(100), answer).await
            {
                let _ = sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        }
    };
    let tasks = TaskTracker::new();
    let task = tasks.spawn(async move { netns.run(talk).await.unwrap() });
    let patience = Duration::from_secs(30);
    let first = tokio::time::timeout(patience, heard.recv()).await.unwrap().unwrap();
    assert_eq!(first, "p1");
    put(&hosts, json!({"type": "NodePort"}), json!([]), &[(p2.address, "n1")]);
    let other = async { while heard.recv().await.unwrap() != "p2" {} };
    tokio::time::timeout(patience, other).await.expect("the other one answers");
    drop(heard);
    task.await.unwrap();
}
