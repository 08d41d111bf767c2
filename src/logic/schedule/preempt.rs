//! Makes room for a pod that fits nowhere, by ending pods that matter less.
//!
//! ```text
//! per node: take away all that matter less ─► fits? ─► give back, the most important first,
//!           budgets' pods before others, as long as it still fits ─► the rest are victims
//! among nodes: fewest broken budgets, lowest highest victim, lowest sum, fewest victims,
//!           latest start of the most important one, the first by name
//! ```
//! Invariants: a victim always matters less than the pod it goes for; with the victims gone
//! the pod fits; the same picture always gives the same victims.
//! Source: `pkg/scheduler/framework/preemption` and `plugins/defaultpreemption`.
//! Not here: ending pods and saying so (`controllers/preemption.rs`).

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Map, Value};

use super::{Load, Picture, Room, footprint};
use crate::logic::rollout_ranking::is_ended;
use crate::logic::schedule_filter::{Obstacle, check_node};
use crate::logic::schedule_resources::Footprint;
use crate::logic::selector::LabelSelector;

/// What a disruption budget still allows.
#[derive(Clone, Debug)]
pub struct Budget {
    pub namespace: String,
    pub selector: LabelSelector,
    pub allowed: i64,
    /// Pods whose end it has counted already.
    pub noted: Vec<String>,
}

/// Who has to go, and from where.
#[derive(Clone, Debug)]
pub struct Preemption {
    pub node: String,
    pub victims: Vec<Arc<Pod>>,
}

/// Why nobody goes; `Display` is Kubernetes' word after `preemption: `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPreemption {
    /// The pod does not want it.
    Policy,
    /// Somebody goes already.
    Underway,
    /// It would not help: on so many nodes nobody matters less, on so many it would not help.
    Nowhere { no_victims: usize, no_help: usize },
}

impl std::fmt::Display for NoPreemption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoPreemption::Policy => f.write_str("not eligible due to preemptionPolicy=Never."),
            NoPreemption::Underway => {
                f.write_str("not eligible due to a terminating pod on the nominated node.")
            }
            NoPreemption::Nowhere { no_victims, no_help } => {
                let total = no_victims + no_help;
                let mut reasons = Vec::new();
                if *no_victims > 0 {
                    let text = "No preemption victims found for incoming pod";
                    reasons.push(format!("{no_victims} {text}"));
                }
                if *no_help > 0 {
                    reasons.push(format!("{no_help} Preemption is not helpful for scheduling"));
                }
                write!(f, "0/{total} nodes are available: {}.", reasons.join(", "))
            }
        }
    }
}

/// The pod's priority; pods of before there were any have none.
pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// Whether the pod may end others at all.
pub fn may_preempt(pod: &Pod) -> bool {
    let policy = pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref());
    policy != Some("Never")
}

/// When the pod began; one that has not is the youngest.
fn start(pod: &Pod) -> Timestamp {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    started.map_or(Timestamp::MAX, |time| time.0)
}

/// Most important first.
fn importance(pod: &Pod) -> (Reverse<i32>, Timestamp, String) {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    (Reverse(priority(pod)), start(pod), uid)
}

fn selects(budget: &Budget, pod: &Pod) -> bool {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if pod.metadata.namespace.as_deref().unwrap_or_default() != budget.namespace
        || budget.selector.is_empty()
        || budget.noted.iter().any(|noted| noted == name)
    {
        return false;
    }
    let labels = pod.metadata.labels.iter().flatten();
    let labels: Map<String, Value> =
        labels.map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    budget.selector.matches_labels(Some(&labels))
}

/// Parts the pods (most important first) into those whose end breaks a budget and others.
fn part(pods: Vec<Arc<Pod>>, budgets: &[Budget]) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut allowed: Vec<i64> = budgets.iter().map(|budget| budget.allowed).collect();
    let (mut breaking, mut free) = (Vec::new(), Vec::new());
    for pod in pods {
        let mut breaks = false;
        for (at, budget) in budgets.iter().enumerate() {
            if selects(budget, &pod) {
                allowed[at] -= 1;
                breaks |= allowed[at] < 0;
            }
        }
        if breaks { breaking.push(pod) } else { free.push(pod) }
    }
    (breaking, free)
}

/// Smaller is better.
type Cost = (usize, i32, i64, usize, Reverse<Timestamp>);

struct Candidate {
    cost: Cost,
    victims: Vec<Arc<Pod>>,
}

fn cost(victims: &[Arc<Pod>], broken: usize) -> Cost {
    let highest = victims.iter().map(|pod| priority(pod)).max().unwrap_or(i32::MIN);
    // As in Kubernetes every victim weighs something, whatever its priority is.
    let sum = victims.iter().map(|pod| i64::from(priority(pod)) + i64::from(i32::MAX) + 1).sum();
    let first = victims.iter().filter(|pod| priority(pod) == highest).map(|pod| start(pod)).min();
    (broken, highest, sum, victims.len(), Reverse(first.unwrap_or(Timestamp::MAX)))
}

/// Who goes from this node so that the pod fits; `None` if nobody's end is enough.
fn on_node(
    room: &Room,
    pod: &Pod,
    wanted: &Footprint,
    here: Vec<Arc<Pod>>,
    budgets: &[Budget],
) -> Option<Candidate> {
    let mut lesser: Vec<Arc<Pod>> = here
        .into_iter()
        .filter(|other| priority(other) < priority(pod) && !is_ended(other))
        .collect();
    if lesser.is_empty() {
        return None;
    }
    lesser.sort_by_cached_key(|pod| importance(pod));
    let mut load = room.load.clone();
    for other in &lesser {
        load.give_back(&footprint(other));
    }
    room.check_with(&load, wanted).ok()?;
    let (breaking, free) = part(lesser, budgets);
    let mut victims = Vec::new();
    let mut broken = 0;
    for (pods, breaks) in [(breaking, true), (free, false)] {
        for other in pods {
            let mut with = load.clone();
            with.take(&footprint(&other));
            if room.check_with(&with, wanted).is_ok() {
                load = with;
            } else {
                broken += usize::from(breaks);
                victims.push(other);
            }
        }
    }
    victims.sort_by_cached_key(|pod| importance(pod));
    Some(Candidate { cost: cost(&victims, broken), victims })
}

impl Picture {
    /// Looks for a node on which pods that matter less can make room. `on` names the pods
    /// of a node that may be ended; what else is in the picture stays.
    pub fn preempt(
        &self,
        pod: &Pod,
        on: impl Fn(&str) -> Vec<Arc<Pod>>,
        budgets: &[Budget],
        may: impl Fn(&Node) -> Result<(), Obstacle>,
    ) -> Result<Preemption, NoPreemption> {
        if !may_preempt(pod) {
            return Err(NoPreemption::Policy);
        }
        let wanted = footprint(pod);
        let (mut no_victims, mut no_help) = (0, 0);
        let mut best: Option<(Candidate, &str)> = None;
        for room in &self.rooms {
            if check_node(pod, &room.node).and_then(|()| may(&room.node)).is_err() {
                no_help += 1;
                continue;
            }
            let Some(found) = on_node(room, pod, &wanted, on(&room.name), budgets) else {
                no_victims += 1;
                continue;
            };
            if best.as_ref().is_none_or(|(held, _)| found.cost < held.cost) {
                best = Some((found, &room.name));
            }
        }
        match best {
            Some((found, node)) => Ok(Preemption { node: node.to_owned(), victims: found.victims }),
            None => Err(NoPreemption::Nowhere { no_victims, no_help }),
        }
    }
}

impl Load {
    fn give_back(&mut self, footprint: &Footprint) {
        let (held, back) = (&mut self.used, footprint.request);
        held.cpu_milli -= back.cpu_milli;
        held.memory_bytes -= back.memory_bytes;
        self.pods -= 1;
        for port in &footprint.ports {
            if let Some(at) = self.ports.iter().position(|held| held == port) {
                self.ports.swap_remove(at);
            }
        }
    }
}

#[cfg(test)]
#[path = "preempt_tests.rs"]
mod tests;
