//! Which pods a node ends when it runs out of memory, disk or process ids.
//!
//! ```text
//! signals ─► thresholds met ─► condition (held for a while) ─► rank pods ─► the first that may
//! ```
//! Order for memory: who uses more than he asked for, then the lower priority, then who uses
//! most beyond what he asked for. For process ids and disk there is nothing asked for, so the
//! lower priority goes first, then who uses most.
//! Invariants: what is critical to the cluster is never ended; one pod at a time.
//! Source: `pkg/kubelet/eviction/helpers.go`; its sentences are kept.
//! Not here: measuring (`sys/host_facts`, `agent/usage`), ending (`agent/pressure`).

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::Pod;

use crate::model::threshold::Threshold;

/// What runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    Memory,
    Disk,
    Inodes,
    Pids,
}

impl Signal {
    /// The node's condition that tells of it.
    pub fn condition(self) -> &'static str {
        match self {
            Signal::Memory => "MemoryPressure",
            Signal::Disk | Signal::Inodes => "DiskPressure",
            Signal::Pids => "PIDPressure",
        }
    }

    /// The name of the resource in messages.
    pub fn resource(self) -> &'static str {
        match self {
            Signal::Memory => "memory",
            Signal::Disk => "ephemeral-storage",
            Signal::Inodes => "inodes",
            Signal::Pids => "pids",
        }
    }
}

/// What is left of something, and how much there is of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    pub available: u64,
    pub capacity: u64,
}

/// Whether so little is left that somebody must go; what was not measured is not low.
pub fn is_met(threshold: Threshold, level: Level) -> bool {
    level.capacity > 0 && level.available < threshold.of(level.capacity)
}

/// A pod that might go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    pub uid: String,
    pub name: String,
    pub priority: i32,
    /// The cluster needs it.
    pub critical: bool,
    pub containers: Vec<Share>,
}

/// A container's part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub name: String,
    /// Of what runs out: bytes or processes; `None` where it was not measured.
    pub used: Option<u64>,
    pub request: u64,
}

/// From here on a pod is critical.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// Whether the pod must stay whatever happens.
pub fn is_critical(pod: &Pod) -> bool {
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    priority >= CRITICAL_PRIORITY
}

fn used(pod: &Candidate) -> u64 {
    pod.containers.iter().filter_map(|share| share.used).fold(0, u64::saturating_add)
}

fn asked(pod: &Candidate) -> u64 {
    pod.containers.iter().map(|share| share.request).fold(0, u64::saturating_add)
}

/// All pods, the first to go first.
pub fn rank(signal: Signal, mut pods: Vec<Candidate>) -> Vec<Candidate> {
    pods.sort_by_cached_key(|pod| {
        let asked = if signal == Signal::Memory { asked(pod) } else { 0 };
        let over = i128::from(used(pod)) - i128::from(asked);
        let within = signal == Signal::Memory && over <= 0;
        (within, pod.priority, Reverse(over), pod.uid.clone())
    });
    pods
}

/// Who goes now.
pub fn choose(signal: Signal, pods: Vec<Candidate>) -> Option<Candidate> {
    rank(signal, pods).into_iter().find(|pod| !pod.critical)
}

/// A quantity as the kubelet writes it.
fn quantity(signal: Signal, value: u64) -> String {
    match signal {
        Signal::Memory | Signal::Disk => format!("{}Ki", value / 1024),
        Signal::Inodes | Signal::Pids => value.to_string(),
    }
}

/// What the pod says of its end.
pub fn message(signal: Signal, threshold: Threshold, level: Level, pod: &Candidate) -> String {
    let resource = signal.resource();
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        quantity(signal, threshold.of(level.capacity)),
        quantity(signal, level.available)
    );
    if signal == Signal::Memory {
        for share in &pod.containers {
            let Some(used) = share.used.filter(|used| *used > share.request) else { continue };
            text.push_str(&format!(
                "Container {} was using {}, request is {}, has larger consumption of {resource}. ",
                share.name,
                quantity(signal, used),
                if share.request == 0 { "0".to_owned() } else { quantity(signal, share.request) }
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, priority: i32, used: u64, request: u64) -> Candidate {
        let share = Share { name: "c".into(), used: Some(used << 20), request: request << 20 };
        Candidate {
            uid: name.into(),
            name: name.into(),
            priority,
            critical: false,
            containers: vec![share],
        }
    }

    fn names(pods: Vec<Candidate>) -> Vec<String> {
        pods.into_iter().map(|pod| pod.name).collect()
    }

    #[test]
    fn who_uses_more_than_he_asked_for_goes_first() {
        let pods = vec![
            pod("guaranteed", 0, 400, 400),
            pod("burstable-over", 0, 300, 100),
            pod("best-effort", 0, 250, 0),
            pod("important-over", 100, 900, 10),
            pod("small-over", 0, 20, 10),
        ];
        assert_eq!(
            names(rank(Signal::Memory, pods.clone())),
            ["best-effort", "burstable-over", "small-over", "important-over", "guaranteed"]
        );
        // Nothing is asked for in processes: priority, then use.
        assert_eq!(names(rank(Signal::Pids, pods))[..2], ["guaranteed", "burstable-over"]);
    }

    #[test]
    fn what_is_critical_stays() {
        let mut pods = vec![pod("critical", 0, 900, 0), pod("other", 5, 1, 100)];
        pods[0].critical = true;
        assert_eq!(choose(Signal::Memory, pods.clone()).unwrap().name, "other");
        pods.pop();
        assert_eq!(choose(Signal::Memory, pods), None);
        let of = |value: serde_json::Value| -> Pod { serde_json::from_value(value).unwrap() };
        assert!(is_critical(&of(serde_json::json!({"spec": {"containers": [],
            "priority": 2_000_001_000}}))));
        // What its author says of itself does not count.
        assert!(!is_critical(&of(serde_json::json!({"metadata": {"annotations":
            {"kubernetes.io/config.source": "file"}}}))));
        assert!(!is_critical(&Pod::default()));
    }

    #[test]
    fn a_threshold_is_met_below_it() {
        let level = |available| Level { available, capacity: 1_000 };
        let tenth = Threshold::Permille(100);
        assert!(is_met(tenth, level(99)) && !is_met(tenth, level(100)));
        assert!(!is_met(tenth, Level::default()), "what was not measured is not low");
    }

    #[test]
    fn the_pod_says_what_ran_out_and_who_took_it() {
        let level = Level { available: 90 << 20, capacity: 4 << 30 };
        let text =
            message(Signal::Memory, Threshold::Amount(100 << 20), level, &pod("web", 0, 300, 100));
        assert_eq!(
            text,
            "The node was low on resource: memory. Threshold quantity: 102400Ki, available: 92160Ki. Container c was using 307200Ki, request is 102400Ki, has larger consumption of memory. "
        );
    }
}
