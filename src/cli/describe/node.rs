//! A Node's page.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::Value;

use super::sheet::Sheet;
use super::{annotations, items, pairs, scalar, text, time};
use crate::logic::schedule_resources::{Amount, allocatable, footprint};
use crate::model::kinds::human_duration;

const ROLE: &str = "node-role.kubernetes.io/";

fn roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let roles: Vec<&str> = labels.filter_map(|(label, _)| label.strip_prefix(ROLE)).collect();
    if roles.is_empty() { "<none>".into() } else { roles.join(",") }
}

fn taints(node: &Value) -> Vec<String> {
    let one = |taint: &Value| match text(taint, "/value") {
        "" => format!("{}:{}", text(taint, "/key"), text(taint, "/effect")),
        value => format!("{}={value}:{}", text(taint, "/key"), text(taint, "/effect")),
    };
    items(&node["spec"]["taints"]).map(one).collect()
}

fn share(used: i64, total: i64) -> String {
    let percent = if total > 0 { i128::from(used) * 100 / i128::from(total) } else { 0 };
    format!("({percent}%)")
}

/// What the pods on the node ask for, each and together.
fn pods(sheet: &mut Sheet, node: &Value, pods: &[Value], now: Timestamp) {
    let total = serde_json::from_value::<Node>(node.clone()).map(|node| allocatable(&node).0);
    let total = total.unwrap_or_default();
    let is_over = |pod: &&Value| !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    let running: Vec<&Value> = pods.iter().filter(is_over).collect();
    let mut sum = Amount::default();
    let mut rows = Vec::new();
    for pod in &running {
        let asked =
            serde_json::from_value::<Pod>((*pod).clone()).map(|pod| footprint(&pod).request);
        let asked = asked.unwrap_or_default();
        sum = sum.plus(asked);
        let made = text(pod, "/metadata/creationTimestamp").parse::<Timestamp>();
        rows.push(vec![
            text(pod, "/metadata/namespace").to_owned(),
            text(pod, "/metadata/name").to_owned(),
            format!("{}m {}", asked.cpu_milli, share(asked.cpu_milli, total.cpu_milli)),
            format!(
                "{}Mi {}",
                asked.memory_bytes >> 20,
                share(asked.memory_bytes, total.memory_bytes)
            ),
            made.map(|made| human_duration(now.as_second() - made.as_second())).unwrap_or_default(),
        ]);
    }
    rows.sort();
    sheet.heading(0, "Non-terminated Pods");
    sheet.plain(1, &format!("({} in total)", running.len()));
    sheet.table(1, &["Namespace", "Name", "CPU Requests", "Memory Requests", "Age"], &rows);
    sheet.heading(0, "Allocated resources");
    let all = [
        vec![
            "cpu".to_owned(),
            format!("{}m {}", sum.cpu_milli, share(sum.cpu_milli, total.cpu_milli)),
        ],
        vec![
            "memory".to_owned(),
            format!("{}Mi {}", sum.memory_bytes >> 20, share(sum.memory_bytes, total.memory_bytes)),
        ],
    ];
    sheet.table(1, &["Resource", "Requests"], &all);
}

/// Writes the page; `lease` is null if there is none.
pub(super) fn describe(
    sheet: &mut Sheet,
    node: &Value,
    lease: &Value,
    on_it: &[Value],
    now: Timestamp,
) {
    let (metadata, spec, status) = (&node["metadata"], &node["spec"], &node["status"]);
    sheet.field(0, "Name", text(node, "/metadata/name"));
    sheet.field(0, "Roles", roles(node));
    sheet.many(0, "Labels", &pairs(&metadata["labels"], "="));
    sheet.many(0, "Annotations", &annotations(node));
    sheet.field(0, "CreationTimestamp", time(&metadata["creationTimestamp"]));
    sheet.many(0, "Taints", &taints(node));
    sheet.field(0, "Unschedulable", spec["unschedulable"] == true);
    sheet.heading(0, "Lease");
    let holder = text(lease, "/spec/holderIdentity");
    sheet.field(1, "HolderIdentity", if holder.is_empty() { "<unset>" } else { holder });
    sheet.field(1, "AcquireTime", time(&lease["spec"]["acquireTime"]));
    sheet.field(1, "RenewTime", time(&lease["spec"]["renewTime"]));
    let conditions: Vec<Vec<String>> = items(&status["conditions"])
        .map(|one| {
            vec![
                text(one, "/type").to_owned(),
                text(one, "/status").to_owned(),
                time(&one["lastHeartbeatTime"]),
                time(&one["lastTransitionTime"]),
                text(one, "/reason").to_owned(),
                text(one, "/message").to_owned(),
            ]
        })
        .collect();
    let header = ["Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message"];
    sheet.heading(0, "Conditions");
    sheet.table(1, &header, &conditions);
    sheet.heading(0, "Addresses");
    items(&status["addresses"])
        .for_each(|one| sheet.field(1, text(one, "/type"), text(one, "/address")));
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        sheet.heading(0, title);
        let amounts = status[field].as_object().into_iter().flatten();
        amounts.for_each(|(name, amount)| sheet.field(1, name, scalar(amount)));
    }
    sheet.heading(0, "System Info");
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        sheet.field(1, title, text(&status["nodeInfo"], &format!("/{field}")));
    }
    sheet.field(0, "PodCIDR", text(spec, "/podCIDR"));
    sheet.field(0, "PodCIDRs", items(&spec["podCIDRs"]).map(scalar).collect::<Vec<_>>().join(","));
    pods(sheet, node, on_it, now);
}
