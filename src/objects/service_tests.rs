//! Ports of the nodes, against a store in memory that several masters share.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::tests::{NOW, World, at, kind};
use super::{DeleteRequest, Objects, ObjectsOptions, key};
use crate::model::kv::RangeRequest;
use crate::store::Kv;

fn service(name: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

fn ports(object: &Value) -> Vec<i64> {
    let ports = object["spec"]["ports"].as_array().unwrap();
    ports.iter().map(|port| port["nodePort"].as_i64().unwrap_or_default()).collect()
}

async fn reserved(world: &World) -> BTreeSet<i64> {
    let found = world.kv.range(RangeRequest::prefix(key::NODE_PORTS)).await.unwrap();
    let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
    found.kvs.iter().map(|kv| text(&kv.key).rsplit('/').next().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn node_ports_are_chosen_given_back_and_never_shared() {
    let world = World::new().await;
    let given = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    let made = world.create("", "services", service("one", given.clone())).await.unwrap();
    assert_eq!(made["spec"]["externalTrafficPolicy"], "Cluster");
    let refused = world.create("", "services", service("two", given.clone())).await.unwrap_err();
    let text = "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated";
    assert!(refused.message.contains(text), "{refused}");
    let low = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]});
    let refused = world.create("", "services", service("two", low)).await.unwrap_err();
    let text = "provided port is not in the valid range. The range of valid ports is 30000-32767";
    assert!(refused.message.contains(text), "{refused}");
    // A port of both protocols has one number.
    let dns = json!({"type": "NodePort", "ports": [
        {"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53, "protocol": "TCP"}]});
    let dns = world.create("", "services", service("dns", dns)).await.unwrap();
    assert_eq!(ports(&dns)[0], ports(&dns)[1]);
    assert_eq!(reserved(&world).await, BTreeSet::from([30080, ports(&dns)[0]]));

    // An update that says nothing of the number keeps it; another type gives it back.
    let one = at("", "services", "one");
    let more = json!({"spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}});
    let more = world.merge(&one, more).await.unwrap();
    assert_eq!(ports(&more)[0], 30080);
    assert!((30000..=32767).contains(&ports(&more)[1]));
    let inside = world.merge(&one, json!({"spec": {"type": "ClusterIP"}})).await.unwrap();
    assert_eq!(ports(&inside), [0, 0]);
    assert_eq!(inside["spec"].get("externalTrafficPolicy"), None);
    assert_eq!(reserved(&world).await, BTreeSet::from([ports(&dns)[0]]));
    world.create("", "services", service("two", given)).await.unwrap();
    for name in ["two", "dns"] {
        let address = at("", "services", name);
        world.objects.delete(&address, &DeleteRequest::default()).await.unwrap();
    }
    assert!(reserved(&world).await.is_empty());
}

#[tokio::test]
async fn load_balancers_have_ports_and_a_health_check_as_they_ask() {
    let world = World::new().await;
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
    let made = world.create("", "services", service("lb", local)).await.unwrap();
    let health = made["spec"]["healthCheckNodePort"].as_i64().unwrap();
    assert_eq!(made["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(reserved(&world).await, BTreeSet::from([health, ports(&made)[0]]));
    let address = at("", "services", "lb");
    let cluster = json!({"spec": {"externalTrafficPolicy": "Cluster"}});
    let changed = world.merge(&address, cluster).await.unwrap();
    assert_eq!(changed["spec"].get("healthCheckNodePort"), None);
    let none = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false});
    let none = world.create("", "services", service("bare", none)).await.unwrap();
    assert_eq!(ports(&none), [0]);
    let wrong = json!({"loadBalancerSourceRanges": ["10.0.0.0/33"], "externalIPs": ["127.0.0.1"],
        "trafficDistribution": "Far", "allocateLoadBalancerNodePorts": true});
    let refused = world.create("", "services", service("bad", wrong)).await.unwrap_err();
    for text in [
        "spec.loadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
        "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range",
        "spec.trafficDistribution: Unsupported value: \"Far\"",
        "spec.allocateLoadBalancerNodePorts: Forbidden",
    ] {
        assert!(refused.message.contains(text), "{text}: {refused}");
    }
}

#[tokio::test]
async fn two_masters_never_give_one_port_to_two_services() {
    let world = World::new().await;
    let range = "10.97.0.0/20".parse().unwrap();
    let options = ObjectsOptions { service_range: range };
    let masters: Vec<Arc<Objects>> =
        (0..2).map(|_| Arc::new(Objects::new(world.kv.clone(), options))).collect();
    let mut creates = tokio::task::JoinSet::new();
    for number in 0..40 {
        let master = masters[number % 2].clone();
        // Every fourth asks for the same one.
        let port = if number % 4 == 0 { json!(30100) } else { Value::Null };
        let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
        let object = service(&format!("s{number}"), spec);
        creates.spawn(async move {
            master.create(kind("", "services"), Some("default"), object, NOW).await
        });
    }
    let (mut given, mut asked) = (Vec::new(), 0);
    while let Some(done) = creates.join_next().await {
        match done.unwrap() {
            Ok(made) => {
                asked += usize::from(ports(&made)[0] == 30100);
                given.extend(ports(&made));
            }
            Err(refused) => {
                assert!(refused.message.contains("already allocated"), "{refused}");
            }
        }
    }
    assert_eq!(asked, 1);
    assert!(given.len() >= 31, "{given:?}");
    let distinct: BTreeSet<i64> = given.iter().copied().collect();
    assert_eq!(distinct.len(), given.len());
    assert_eq!(reserved(&world).await, distinct);
}
