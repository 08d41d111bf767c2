//! A pod's columns; its STATUS is the reason that explains the pod best.
//!
//! Source: `printPod`. The order of the cases is the meaning: init containers speak
//! before containers, a container's reason before the phase, deletion before all.

use jiff::Timestamp;
use serde_json::Value;

use super::super::{Column, human};
use super::{AGE, NAME, int_at, list_at, or_none, str_at, text};

pub(in super::super) const POD: &[Column] = &[
    NAME,
    text("Ready", false, |pod, _| {
        let seen = summarize(pod);
        format!("{}/{}", seen.ready, seen.total).into()
    }),
    text("Status", false, |pod, _| summarize(pod).reason.into()),
    text("Restarts", false, restarts),
    AGE,
    text("IP", true, |pod, _| or_none(str_at(pod, "/status/podIP"))),
    text("Node", true, |pod, _| or_none(str_at(pod, "/spec/nodeName"))),
    text("Nominated Node", true, |pod, _| or_none(str_at(pod, "/status/nominatedNodeName"))),
    text("Readiness Gates", true, readiness_gates),
];

#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    /// Newest end of a container that was restarted.
    last_restart: Option<Timestamp>,
}

fn condition_is_true(pod: &Value, kind: &str) -> bool {
    list_at(pod, "/status/conditions").iter().any(|condition| {
        str_at(condition, "/type") == kind && str_at(condition, "/status") == "True"
    })
}

/// Init containers that run beside the others (sidecars).
fn restartable_names(pod: &Value) -> Vec<&str> {
    list_at(pod, "/spec/initContainers")
        .iter()
        .filter(|container| str_at(container, "/restartPolicy") == "Always")
        .map(|container| str_at(container, "/name"))
        .collect()
}

fn newer(best: Option<Timestamp>, status: &Value) -> Option<Timestamp> {
    let ended = str_at(status, "/lastState/terminated/finishedAt").parse::<Timestamp>().ok();
    best.max(ended)
}

fn exit_reason(terminated: &Value) -> String {
    match (str_at(terminated, "/reason"), int_at(terminated, "/signal")) {
        ("", 0) => format!("ExitCode:{}", int_at(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Reads the init containers; returns whether the pod still initializes.
fn read_init(pod: &Value, seen: &mut Summary, sidecar_restarts: &mut i64) -> bool {
    let sidecars = restartable_names(pod);
    let count = list_at(pod, "/spec/initContainers").len();
    for (index, status) in list_at(pod, "/status/initContainerStatuses").iter().enumerate() {
        seen.restarts += int_at(status, "/restartCount");
        seen.last_restart = newer(seen.last_restart, status);
        let sidecar = sidecars.contains(&str_at(status, "/name"));
        if sidecar {
            *sidecar_restarts += int_at(status, "/restartCount");
        }
        let terminated = status.pointer("/state/terminated");
        let waiting = str_at(status, "/state/waiting/reason");
        if terminated.is_some_and(|end| int_at(end, "/exitCode") == 0) {
            continue;
        }
        if sidecar && status["started"] == Value::Bool(true) {
            if status["ready"] == Value::Bool(true) {
                seen.ready += 1;
            }
            continue;
        }
        seen.reason = match terminated {
            Some(end) => format!("Init:{}", exit_reason(end)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => {
                format!("Init:{waiting}")
            }
            None => format!("Init:{index}/{count}"),
        };
        return true;
    }
    false
}

fn read_containers(pod: &Value, seen: &mut Summary) {
    let mut has_running = false;
    for status in list_at(pod, "/status/containerStatuses").iter().rev() {
        seen.restarts += int_at(status, "/restartCount");
        seen.last_restart = newer(seen.last_restart, status);
        let waiting = str_at(status, "/state/waiting/reason");
        if !waiting.is_empty() {
            seen.reason = waiting.to_owned();
        } else if let Some(end) = status.pointer("/state/terminated") {
            seen.reason = exit_reason(end);
        } else if status["ready"] == Value::Bool(true) && status.pointer("/state/running").is_some()
        {
            has_running = true;
            seen.ready += 1;
        }
    }
    if seen.reason == "Completed" && has_running {
        let ready = condition_is_true(pod, "Ready");
        seen.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn summarize(pod: &Value) -> Summary {
    let phase = str_at(pod, "/status/phase");
    let own_reason = str_at(pod, "/status/reason");
    let mut seen = Summary {
        reason: if own_reason.is_empty() { phase } else { own_reason }.to_owned(),
        total: list_at(pod, "/spec/containers").len() + restartable_names(pod).len(),
        ..Summary::default()
    };
    let gated = list_at(pod, "/status/conditions").iter().any(|condition| {
        str_at(condition, "/type") == "PodScheduled"
            && str_at(condition, "/reason") == "SchedulingGated"
    });
    if gated {
        seen.reason = "SchedulingGated".to_owned();
    }
    let mut sidecar_restarts = 0;
    let initializing = read_init(pod, &mut seen, &mut sidecar_restarts);
    if !initializing || condition_is_true(pod, "Initialized") {
        seen.restarts = sidecar_restarts;
        read_containers(pod, &mut seen);
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        if own_reason == "NodeLost" {
            seen.reason = "Unknown".to_owned();
        } else if phase != "Succeeded" && phase != "Failed" {
            seen.reason = "Terminating".to_owned();
        }
    }
    seen
}

fn restarts(pod: &Value, now: Timestamp) -> Value {
    let seen = summarize(pod);
    match seen.last_restart {
        Some(last) if seen.restarts != 0 => {
            let ago = human::human_duration(now.as_second() - last.as_second());
            format!("{} ({ago} ago)", seen.restarts).into()
        }
        _ => seen.restarts.to_string().into(),
    }
}

fn readiness_gates(pod: &Value, _: Timestamp) -> Value {
    let gates = list_at(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let met =
        gates.iter().filter(|gate| condition_is_true(pod, str_at(gate, "/conditionType"))).count();
    format!("{met}/{}", gates.len()).into()
}
