//! What the cluster file's reader must find, and on which line.

use crate::model::cluster::Cluster;
use crate::model::threshold::{EvictionThresholds, Period, Threshold};

const GOOD: &str = "\
apiVersion: holdfast.io/v1
kind: Cluster
metadata: {name: lab}
spec:
  network: {podRange: 10.244.0.0/16, nodePrefix: 24, serviceRange: 10.96.0.0/16}
  sites:
    - name: city
      centers:
        - name: a
          nodes:
            - {name: a1, address: 10.77.0.11, roles: [control, worker]}
            - {name: a2, address: 10.77.0.12, roles: [control, worker]}
        - name: b
          podRange: 10.244.0.0/18
          nodes:
            - {name: b1, address: 10.77.0.21, roles: [control]}
        - name: c
          nodes: [{name: c1, address: 10.77.0.31, roles: [worker]}]
";

#[test]
fn a_good_file_resolves_every_range() {
    let parsed = Cluster::parse(GOOD).expect("good");
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    let cluster = parsed.cluster;
    let range = |name: &str| {
        let placed = cluster.node(name).expect("listed");
        cluster.pod_range_for(&placed, &[]).expect("room").to_string()
    };
    assert_eq!(range("b1"), "10.244.0.0/24");
    assert_eq!(range("a1"), "10.244.64.0/24");
    assert_eq!(range("a2"), "10.244.65.0/24");
    assert_eq!(range("c1"), "10.244.128.0/24");
    let placed = cluster.node("a1").expect("listed");
    let taken = ["10.244.64.0/24".parse().expect("net"), "10.244.65.0/24".parse().expect("net")];
    assert_eq!(cluster.pod_range_for(&placed, &taken).expect("room").to_string(), "10.244.66.0/24");
    let json = serde_json::to_string(&cluster).expect("serializes");
    assert_eq!(serde_json::from_str::<Cluster>(&json).expect("reads back"), cluster);
}

/// Replaces one line of the good file and expects one problem there that contains `text`.
fn expect(line: usize, replacement: &str, at: u64, text: &str) {
    let changed: Vec<&str> = GOOD
        .lines()
        .enumerate()
        .map(|(i, old)| if i + 1 == line { replacement } else { old })
        .collect();
    let problems = Cluster::parse(&changed.join("\n")).expect_err(replacement).0;
    let found = problems.iter().any(|p| p.line == at && p.message.contains(text));
    assert!(found, "{replacement:?}: wanted line {at} {text:?}, got {problems:#?}");
}

#[test]
fn every_mistake_is_named_with_its_line() {
    expect(1, "apiVersion: holdfast.io/v2", 1, "must be holdfast.io/v1");
    expect(2, "kind: Clutter", 2, "must be Cluster");
    expect(3, "metadata: {name: Lab}", 3, "RFC 1123");
    expect(3, "metadata: {name: lab, colour: red}", 3, "unknown key \"colour\"");
    expect(4, "spac:", 4, "unknown key \"spac\"");
    expect(5, "  network: {podRange: 10.244.0.0/33}", 5, "is not a range");
    expect(5, "  network: {podRange: 10.244.0.1/16}", 5, "host bits");
    expect(5, "  network: {nodePrefix: 12}", 5, "must lie between");
    expect(5, "  network: {serviceRange: 10.244.96.0/20}", 5, "overlaps");
    expect(5, "  network: {clusterDomain: Cluster_local}", 5, "DNS name");
    expect(13, "        - name: a", 13, "center a is already on line 9");
    expect(14, "          podRange: 10.245.0.0/18", 14, "not inside");
    expect(14, "          podRange: 10.244.0.0/25", 14, "holds 0 node range");
    let node = |text: &str| format!("            - {text}");
    let n = |text| node(text);
    expect(12, &n("{name: a1, address: 10.77.0.12, roles: [worker]}"), 12, "already on line 11");
    expect(12, &n("{name: a2, address: 10.77.0.11, roles: [worker]}"), 12, "already on line 11");
    expect(12, &n("{name: a2, address: 10.77.0.300, roles: [worker]}"), 12, "not an IP address");
    expect(12, &n("{name: a2, address: 10.244.3.4, roles: [worker]}"), 12, "lies inside");
    expect(12, &n("{name: a2, address: 10.96.3.4, roles: [worker]}"), 12, "lies inside");
    expect(12, &n("{name: a2, address: 127.0.0.1, roles: [worker]}"), 12, "cannot be reached");
    expect(12, &n("{name: a_2, address: 10.77.0.12, roles: [worker]}"), 12, "RFC 1123");
    expect(12, &n("{name: a2, address: 10.77.0.12, roles: [king]}"), 12, "unknown role \"king\"");
    expect(12, &n("{name: a2, address: 10.77.0.12, role: []}"), 12, "unknown key \"role\"");
    expect(12, &n("{name: a2, address: 10.77.0.12}"), 12, "roles is missing");
}

#[test]
fn all_problems_come_together_in_line_order() {
    let text = GOOD
        .replace("metadata: {name: lab}", "metadata: {name: LAB}")
        .replace("name: a2, address: 10.77.0.12", "name: a1, address: 10.77.0.11")
        .replace("roles: [worker]}]", "roles: [wrker], x: 1}]");
    let problems = Cluster::parse(&text).expect_err("many").0;
    let lines: Vec<u64> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [3, 12, 12, 18, 18], "{problems:#?}");
}

#[test]
fn thresholds_of_eviction_are_the_default_where_the_file_says_nothing() {
    let eviction = "spec:\n  eviction: {nodefsAvailable: 2Gi, pidAvailable: 2.5%, pressureTransitionPeriod: 90s}";
    let cluster = Cluster::parse(&GOOD.replace("spec:", eviction)).expect("good").cluster;
    let expected = EvictionThresholds {
        nodefs_available: Threshold::Amount(2 << 30),
        pid_available: Threshold::Permille(25),
        pressure_transition_period: Period::from_secs(90),
        ..EvictionThresholds::default()
    };
    assert_eq!(cluster.eviction, expected);
    let json = serde_json::to_string(&cluster).expect("serializes");
    assert_eq!(serde_json::from_str::<Cluster>(&json).expect("reads back"), cluster);
    let wrong = "spec:\n  eviction: {nodefsAvailable: 101%, imagefsAvailable: 15%, \
                 pressureTransitionPeriod: soon}";
    let problems = Cluster::parse(&GOOD.replace("spec:", wrong)).expect_err("wrong").0;
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        all,
        [
            "line 5: spec.eviction: unknown key \"imagefsAvailable\"; known are memoryAvailable, \
             nodefsAvailable, nodefsInodesFree, pidAvailable, pressureTransitionPeriod",
            "line 5: spec.eviction.nodefsAvailable: \"101%\" is not a quantity like 100Mi or a \
             part like 10%",
            "line 5: spec.eviction.pressureTransitionPeriod: \"soon\" is not a time like 5m or 90s",
        ]
    );
}

#[test]
fn overlapping_center_ranges_and_missing_control_are_refused() {
    let text = GOOD
        .replace("        - name: c\n", "        - name: c\n          podRange: 10.244.32.0/19\n");
    let problems = Cluster::parse(&text).expect_err("overlap").0;
    assert!(problems[0].message.contains("overlaps 10.244.0.0/18 on line 14"), "{problems:?}");
    let text = GOOD.replace("control, worker", "worker").replace("[control]", "[worker]");
    let problems = Cluster::parse(&text).expect_err("no control").0;
    assert!(problems[0].message.contains("no node has the role control"), "{problems:?}");
}

#[test]
fn an_even_number_of_control_nodes_is_a_warning() {
    let text = GOOD.replace("roles: [control]}", "roles: [worker]}");
    let parsed = Cluster::parse(&text).expect("still good");
    assert!(parsed.warnings[0].message.contains("2 control nodes"), "{:?}", parsed.warnings);
}
