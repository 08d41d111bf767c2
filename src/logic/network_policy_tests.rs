//! Policies against a second evaluator that asks each object anew about each connection.

use super::*;
use proptest::prelude::*;
use serde_json::json;

/// Whether the compiled rules let a connection pass; each end is looked at by its own.
fn passes(rules: &[PodRules], from: Ipv4Addr, to: Ipv4Addr, what: (Transport, u16)) -> bool {
    let open = |allowed: Option<&BTreeSet<Allow>>, peer: Ipv4Addr| {
        allowed.is_none_or(|allowed| {
            allowed.iter().any(|allow| {
                let port = match &allow.ports {
                    Ports::All => true,
                    Ports::Some(ports) => ports
                        .iter()
                        .any(|(kind, a, b)| *kind == what.0 && (*a..=*b).contains(&what.1)),
                };
                port && holds(&allow.peers, peer)
            })
        })
    };
    let of = |address: Ipv4Addr| rules.iter().find(|one| one.address == address);
    from == to
        || (open(of(from).and_then(|one| one.egress.as_ref()), to)
            && open(of(to).and_then(|one| one.ingress.as_ref()), from))
}

/// An end of a connection: a pod, or somebody outside.
#[derive(Clone, Debug)]
struct End {
    address: Ipv4Addr,
    pod: Option<Value>,
}

/// The same question asked of the objects' words, one by one.
struct Slow<'a> {
    policies: &'a [Value],
    namespaces: &'a [Value],
}

impl Slow<'_> {
    fn passes(&self, from: &End, to: &End, what: (Transport, u16)) -> bool {
        from.address == to.address
            || (self.side(from, to, to, "Egress", "egress", "to", what)
                && self.side(to, from, to, "Ingress", "ingress", "from", what))
    }

    fn side(
        &self,
        subject: &End,
        peer: &End,
        target: &End,
        name: &str,
        field: &str,
        peers: &str,
        what: (Transport, u16),
    ) -> bool {
        let Some(pod) = &subject.pod else { return true };
        let mine: Vec<&Value> = self
            .policies
            .iter()
            .filter(|policy| {
                policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
                    && labels_match(&policy["spec"]["podSelector"], &pod["metadata"]["labels"])
                    && policy["spec"]["policyTypes"].as_array().unwrap().contains(&json!(name))
            })
            .collect();
        mine.is_empty()
            || mine.iter().any(|policy| {
                let rules = policy["spec"][field].as_array().cloned().unwrap_or_default();
                rules.iter().any(|rule| {
                    let home = &policy["metadata"]["namespace"];
                    let list = rule[peers].as_array().cloned().unwrap_or_default();
                    let ports = rule["ports"].as_array().cloned().unwrap_or_default();
                    (list.is_empty() || list.iter().any(|one| self.is_peer(one, peer, home)))
                        && (ports.is_empty() || ports.iter().any(|p| is_port(p, target, what)))
                })
            })
    }

    fn is_peer(&self, one: &Value, peer: &End, home: &Value) -> bool {
        if one["ipBlock"].is_object() {
            let inside = |text: &Value| {
                let net: Ipv4Net = text.as_str().unwrap().parse().unwrap();
                net.contains(&peer.address)
            };
            let excepted = one["ipBlock"]["except"].as_array().cloned().unwrap_or_default();
            return inside(&one["ipBlock"]["cidr"]) && !excepted.iter().any(inside);
        }
        let Some(pod) = &peer.pod else { return false };
        let space = &pod["metadata"]["namespace"];
        let in_space = if one["namespaceSelector"].is_object() {
            let found = self.namespaces.iter().find(|n| n["metadata"]["name"] == *space).unwrap();
            labels_match(&one["namespaceSelector"], &found["metadata"]["labels"])
        } else {
            space == home
        };
        in_space
            && (!one["podSelector"].is_object()
                || labels_match(&one["podSelector"], &pod["metadata"]["labels"]))
    }
}

fn labels_match(selector: &Value, labels: &Value) -> bool {
    let plain = selector["matchLabels"].as_object().cloned().unwrap_or_default();
    let terms = selector["matchExpressions"].as_array().cloned().unwrap_or_default();
    plain.iter().all(|(key, value)| labels[key] == *value)
        && terms.iter().all(|term| {
            let held = &labels[term["key"].as_str().unwrap()];
            let listed = || term["values"].as_array().unwrap().contains(held);
            match term["operator"].as_str().unwrap() {
                "In" => !held.is_null() && listed(),
                "NotIn" => held.is_null() || !listed(),
                "Exists" => !held.is_null(),
                _ => held.is_null(),
            }
        })
}

fn is_port(port: &Value, target: &End, (transport, number): (Transport, u16)) -> bool {
    if port["protocol"] != transport.name().to_uppercase() {
        return false;
    }
    match &port["port"] {
        Value::Null => true,
        Value::Number(first) => {
            let first = first.as_u64().unwrap();
            let last = port["endPort"].as_u64().unwrap_or(first);
            (first..=last).contains(&u64::from(number))
        }
        name => target.pod.as_ref().is_some_and(|pod| {
            let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
            ports.iter().any(|one| {
                one["name"] == *name
                    && one["protocol"] == port["protocol"]
                    && one["containerPort"] == number
            })
        }),
    }
}

fn labels() -> impl Strategy<Value = Value> {
    (0..3_u8, 0..3_u8).prop_map(|(app, tier)| {
        let mut labels = json!({});
        if app > 0 {
            labels["app"] = format!("a{app}").into();
        }
        if tier > 0 {
            labels["tier"] = format!("t{tier}").into();
        }
        labels
    })
}

fn selectors() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        labels().prop_map(|labels| json!({"matchLabels": labels})),
        (0..4_usize, 0..2_usize).prop_map(|(operator, key)| {
            let operator = ["In", "NotIn", "Exists", "DoesNotExist"][operator];
            let key = ["app", "tier"][key];
            let mut term = json!({"key": key, "operator": operator});
            if operator.ends_with("In") {
                term["values"] = json!([format!("{}1", &key[..1])]);
            }
            json!({"matchExpressions": [term]})
        }),
    ]
}

fn peers() -> impl Strategy<Value = Value> {
    prop_oneof![
        selectors().prop_map(|one| json!({"podSelector": one})),
        selectors().prop_map(|one| json!({"namespaceSelector": one})),
        (selectors(), selectors())
            .prop_map(|(pods, spaces)| json!({"podSelector": pods, "namespaceSelector": spaces})),
        (28..=32_u8, 29..=32_u8, any::<bool>(), 0..16_u8).prop_map(|(size, inner, hole, at)| {
            let net = Ipv4Net::new([10, 1, 0, at].into(), size).unwrap().trunc();
            let mut block = json!({"cidr": net.to_string()});
            if hole && inner > size {
                let except = Ipv4Net::new([10, 1, 0, at].into(), inner).unwrap().trunc();
                block["except"] = json!([except.to_string()]);
            }
            json!({"ipBlock": block})
        }),
    ]
}

fn ports() -> impl Strategy<Value = Value> {
    let protocol = prop_oneof![Just("TCP"), Just("UDP")];
    let number = prop_oneof![
        Just(Value::Null),
        (78..84_u16).prop_map(Value::from),
        Just(json!("web")),
        Just(json!("dns")),
    ];
    (protocol, number, 0..3_u16, any::<bool>()).prop_map(|(protocol, number, more, range)| {
        let mut port = json!({"protocol": protocol});
        if let (Some(first), true) = (number.as_u64(), range) {
            port["endPort"] = (first + u64::from(more)).into();
        }
        if !number.is_null() {
            port["port"] = number;
        }
        port
    })
}

fn rules(field: &'static str) -> impl Strategy<Value = Value> {
    let rule = (prop::collection::vec(peers(), 0..3), prop::collection::vec(ports(), 0..3));
    let rule = rule.prop_map(move |(peers, ports)| json!({field: peers, "ports": ports}));
    prop::collection::vec(rule, 0..3).prop_map(Value::Array)
}

fn policies() -> impl Strategy<Value = Vec<Value>> {
    let one = (0..3_u8, selectors(), rules("from"), rules("to"), 1..4_u8);
    let one = one.prop_map(|(space, selector, ingress, egress, kinds)| {
        let types: Vec<&str> = [("Ingress", 1), ("Egress", 2)]
            .into_iter()
            .filter(|(_, bit)| kinds & bit != 0)
            .map(|(name, _)| name)
            .collect();
        json!({"metadata": {"namespace": format!("n{space}")}, "spec": {
            "podSelector": selector, "policyTypes": types, "ingress": ingress, "egress": egress}})
    });
    prop::collection::vec(one, 0..5)
}

fn pod(number: u8, space: u8, labels: Value, web: u16) -> Value {
    json!({
        "metadata": {"namespace": format!("n{space}"), "name": format!("p{number}"),
                     "uid": format!("u{number}"), "labels": labels},
        "spec": {"containers": [{"ports": [
            {"name": "web", "containerPort": web, "protocol": "TCP"},
            {"name": "dns", "containerPort": 81, "protocol": "UDP"}]}]},
        "status": {"podIP": format!("10.1.0.{}", number + 1), "phase": "Running"},
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Node 1 holds the even pods, node 2 the odd ones; each evaluates its own side.
    #[test]
    fn compiled_rules_say_what_the_policies_say(
        policies in policies(),
        spaces in prop::collection::vec(labels(), 3),
        pods in prop::collection::vec((0..3_u8, labels(), 79..82_u16), 1..7),
    ) {
        let pods: Vec<Value> = (0..)
            .zip(pods)
            .map(|(number, (space, labels, web))| pod(number, space, labels, web))
            .collect();
        let namespaces: Vec<Value> = (0..)
            .zip(spaces)
            .map(|(number, labels)| {
                json!({"metadata": {"name": format!("n{number}"), "labels": labels}})
            })
            .collect();
        let shared = |values: &[Value]| values.iter().cloned().map(Arc::new).collect::<Vec<_>>();
        let facts: Vec<Arc<PodFacts>> =
            pods.iter().cloned().map(|pod| Arc::new(PodFacts::from(pod))).collect();
        let (shared_policies, shared_spaces) = (shared(&policies), shared(&namespaces));
        let of_node = |parity: usize| {
            let own: BTreeMap<String, Ipv4Addr> = facts
                .iter()
                .enumerate()
                .filter(|(number, _)| number % 2 == parity)
                .map(|(_, pod)| (pod.uid.clone(), pod.address.unwrap()))
                .collect();
            compile(World {
                policies: &shared_policies,
                namespaces: &shared_spaces,
                pods: &facts,
                own: &own,
            })
        };
        let mut compiled = of_node(0);
        compiled.extend(of_node(1));
        let slow = Slow { policies: &policies, namespaces: &namespaces };
        let mut ends: Vec<End> = pods
            .iter()
            .zip(&facts)
            .map(|(pod, facts)| End { address: facts.address.unwrap(), pod: Some(pod.clone()) })
            .collect();
        ends.push(End { address: [10, 1, 0, 12].into(), pod: None });
        ends.push(End { address: [192, 0, 2, 1].into(), pod: None });
        for from in &ends {
            for to in &ends {
                for number in 78..86 {
                    for transport in [Transport::Tcp, Transport::Udp] {
                        let what = (transport, number);
                        let said = passes(&compiled, from.address, to.address, what);
                        prop_assert_eq!(
                            said, slow.passes(from, to, what),
                            "{} to {} at {:?}", from.address, to.address, what
                        );
                    }
                }
            }
        }
    }
}

fn world<'a>(
    policies: &'a [Arc<Value>],
    pods: &'a [Arc<PodFacts>],
    own: &'a BTreeMap<String, Ipv4Addr>,
) -> World<'a> {
    World { policies, namespaces: &[], pods, own }
}

#[test]
fn an_unknown_pod_is_closed_and_one_without_policies_is_open() {
    let known = [Arc::new(PodFacts::from(pod(0, 0, json!({}), 80)))];
    let own = BTreeMap::from([
        ("u0".to_owned(), Ipv4Addr::new(10, 1, 0, 1)),
        ("u9".to_owned(), Ipv4Addr::new(10, 1, 0, 9)),
    ]);
    let compiled = compile(world(&[], &known, &own));
    let shut = Some(BTreeSet::new());
    let expected = PodRules { address: [10, 1, 0, 9].into(), ingress: shut.clone(), egress: shut };
    assert_eq!(compiled, [expected]);
}

#[test]
fn ended_pods_and_those_on_the_hosts_network_are_no_peers() {
    let mut ended = pod(1, 0, json!({}), 80);
    ended["status"]["phase"] = "Succeeded".into();
    let mut on_host = pod(2, 0, json!({}), 80);
    on_host["spec"]["hostNetwork"] = true.into();
    let policy = Arc::new(json!({"metadata": {"namespace": "n0"}, "spec": {
        "podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}}));
    let pods: Vec<Arc<PodFacts>> =
        [pod(0, 0, json!({}), 80), ended, on_host, pod(3, 0, json!({}), 80)]
            .into_iter()
            .map(|pod| Arc::new(PodFacts::from(pod)))
            .collect();
    let own = BTreeMap::from([("u0".to_owned(), Ipv4Addr::new(10, 1, 0, 1))]);
    let policies = [policy];
    let compiled = compile(world(&policies, &pods, &own));
    let one: Ipv4Addr = [10, 1, 0, 1].into();
    let three: Ipv4Addr = [10, 1, 0, 4].into();
    let allow = Allow { peers: Peers::Some(vec![(one, one), (three, three)]), ports: Ports::All };
    let expected = PodRules { address: one, ingress: Some(BTreeSet::from([allow])), egress: None };
    assert_eq!(compiled, [expected]);
}

#[test]
fn blocks_lose_their_exceptions_and_neighbours_merge() {
    let block = json!({"cidr": "10.0.0.0/24", "except": ["10.0.0.16/28", "10.0.0.0/30"]});
    let ranges = block_ranges(&block);
    let text: Vec<String> = ranges.iter().map(|(a, b)| format!("{a}-{b}")).collect();
    assert_eq!(text, ["10.0.0.4-10.0.0.15", "10.0.0.32-10.0.0.255"]);
    let ip = |last| Ipv4Addr::new(10, 0, 0, last);
    let merged = merge(vec![(ip(3), ip(3)), (ip(1), ip(2)), (ip(9), ip(9)), (ip(2), ip(3))]);
    assert_eq!(merged, [(ip(1), ip(3)), (ip(9), ip(9))]);
    assert_eq!(merge(vec![(Ipv4Addr::BROADCAST, Ipv4Addr::BROADCAST)]).len(), 1);
}
