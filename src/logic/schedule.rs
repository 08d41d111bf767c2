//! Chooses the node for each waiting pod.
//!
//! First every node that may not take the pod is left out (schedule_filter.rs and the
//! resources here), then the best of the rest is taken: the center with the fewest
//! replicas of the same owner, in it the node with the fewest, then the node that has
//! most left, then the first by name. Spreading goes before free room because it is what
//! survives the loss of a node or a center.
//!
//! Invariants: the same picture always gives the same answer; what a pass has placed
//! counts for the pods after it; no node is ever given more than it has.
//! Not here: reading the cluster and writing bindings (controllers/scheduler.rs).

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

mod preempt;

pub use preempt::{Budget, NoPreemption, Preemption, may_preempt, priority};

use crate::logic::rollout_ranking::is_ended;
use crate::logic::schedule_filter::{Obstacle, check_node};
use crate::logic::schedule_resources::{Amount, Footprint, HostPort, allocatable, footprint};

/// The label that says in which center a node stands.
pub const CENTER_LABEL: &str = "topology.kubernetes.io/zone";

/// What is taken of a node.
#[derive(Clone, Debug, Default)]
struct Load {
    used: Amount,
    pods: i64,
    ports: Vec<HostPort>,
}

impl Load {
    fn take(&mut self, footprint: &Footprint) {
        self.used = self.used.plus(footprint.request);
        self.pods += 1;
        self.ports.extend(footprint.ports.iter().cloned());
    }
}

#[derive(Debug)]
struct Room {
    node: Arc<Node>,
    name: String,
    /// Number of its center.
    center: usize,
    total: Amount,
    pods_max: i64,
    load: Load,
    /// Replicas by owner uid.
    owners: HashMap<String, i64>,
}

/// A picture of the cluster that takes placements into account as they are made.
#[derive(Debug, Default)]
pub struct Picture {
    rooms: Vec<Room>,
    by_name: HashMap<String, usize>,
    /// How many centers there are.
    centers: usize,
    /// Replicas in each center, by owner uid.
    owners: HashMap<String, Vec<i64>>,
}

/// No node fits; `Display` is the message that Kubernetes would give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unschedulable {
    pub nodes: usize,
    pub obstacles: BTreeMap<Obstacle, usize>,
    /// Nodes that only lack room: there the end of other pods would help.
    pub full: usize,
}

impl std::fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let reasons = self.obstacles.iter();
        let mut reasons: Vec<String> =
            reasons.map(|(obstacle, count)| format!("{count} {obstacle}")).collect();
        reasons.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }
}

impl Picture {
    /// The nodes, still empty.
    pub fn new(nodes: impl IntoIterator<Item = Arc<Node>>) -> Self {
        let mut picture = Picture::default();
        let mut numbers = HashMap::new();
        for node in nodes {
            let name = node.metadata.name.clone().unwrap_or_default();
            let labels = node.metadata.labels.as_ref();
            let center = labels.and_then(|labels| labels.get(CENTER_LABEL)).cloned();
            let next = numbers.len();
            let center = *numbers.entry(center.unwrap_or_default()).or_insert(next);
            let (total, pods_max) = allocatable(&node);
            picture.rooms.push(Room {
                name,
                center,
                total,
                pods_max,
                load: Load::default(),
                owners: HashMap::new(),
                node,
            });
        }
        picture.centers = numbers.len();
        picture.rooms.sort_by(|one, other| one.name.cmp(&other.name));
        let names = picture.rooms.iter().enumerate();
        picture.by_name = names.map(|(at, room)| (room.name.clone(), at)).collect();
        picture
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.by_name.get(name).map(|&at| &self.rooms[at].node)
    }

    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Counts a pod that is on a node already (or is on its way there).
    pub fn occupy(&mut self, pod: &Pod, node: &str) {
        if is_ended(pod) {
            return;
        }
        if let Some(&at) = self.by_name.get(node) {
            let leaving = pod.metadata.deletion_timestamp.is_some();
            let owner = owner(pod).filter(|_| !leaving);
            self.take(at, &footprint(pod), owner);
        }
    }

    fn take(&mut self, at: usize, footprint: &Footprint, owner: Option<&str>) {
        let room = &mut self.rooms[at];
        room.load.take(footprint);
        if let Some(owner) = owner {
            let count = |count: &mut i64| *count += 1;
            match room.owners.get_mut(owner) {
                Some(here) => count(here),
                None => drop(room.owners.insert(owner.to_owned(), 1)),
            }
            match self.owners.get_mut(owner) {
                Some(centers) => count(&mut centers[room.center]),
                None => {
                    let mut centers = vec![0; self.centers];
                    count(&mut centers[room.center]);
                    self.owners.insert(owner.to_owned(), centers);
                }
            }
        }
    }

    /// Chooses the pod's node and counts the pod there.
    pub fn place(&mut self, pod: &Pod) -> Result<String, Unschedulable> {
        self.place_where(pod, |_| Ok(()))
    }

    /// The same among nodes that somebody else does not object to.
    pub fn place_where(
        &mut self,
        pod: &Pod,
        may: impl Fn(&Node) -> Result<(), Obstacle>,
    ) -> Result<String, Unschedulable> {
        let footprint = footprint(pod);
        let owner = owner(pod);
        let siblings = owner.and_then(|owner| self.owners.get(owner));
        let mut obstacles = BTreeMap::new();
        let mut full = 0;
        let mut best: Option<(Score<'_>, usize)> = None;
        for (at, room) in self.rooms.iter().enumerate() {
            match check_node(pod, &room.node)
                .and_then(|()| may(&room.node))
                .map_err(|found| vec![found])
                .and_then(|()| room.check(&footprint).inspect_err(|_| full += 1))
            {
                Ok(()) => {
                    let in_center = siblings.map_or(0, |centers| centers[room.center]);
                    let score = room.score(&footprint, in_center, owner);
                    if best.as_ref().is_none_or(|(held, _)| score < *held) {
                        best = Some((score, at));
                    }
                }
                Err(found) => {
                    for obstacle in found {
                        *obstacles.entry(obstacle).or_default() += 1;
                    }
                }
            }
        }
        let Some((_, at)) = best else {
            return Err(Unschedulable { nodes: self.rooms.len(), obstacles, full });
        };
        self.take(at, &footprint, owner);
        Ok(self.rooms[at].name.clone())
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Score<'a> {
    in_center: i64,
    on_node: i64,
    free: Reverse<i64>,
    pods: i64,
    name: &'a str,
}

impl Room {
    /// Smaller is better; `in_center` are the owner's replicas in the node's center.
    fn score(&self, footprint: &Footprint, in_center: i64, owner: Option<&str>) -> Score<'_> {
        let on_node = owner.and_then(|owner| self.owners.get(owner));
        Score {
            in_center,
            on_node: on_node.copied().unwrap_or(0),
            free: Reverse(self.free_permille(footprint)),
            pods: self.load.pods,
            name: &self.name,
        }
    }

    /// Whether there is room; every shortage is told, as Kubernetes does.
    fn check(&self, footprint: &Footprint) -> Result<(), Vec<Obstacle>> {
        self.check_with(&self.load, footprint)
    }

    /// The same if so much were taken.
    fn check_with(&self, load: &Load, footprint: &Footprint) -> Result<(), Vec<Obstacle>> {
        let taken = |port: &HostPort| load.ports.iter().any(|held| held.conflicts_with(port));
        if footprint.ports.iter().any(taken) {
            return Err(vec![Obstacle::HostPort]);
        }
        let (request, used, total) = (footprint.request, load.used, self.total);
        let short = |asked: i64, used: i64, total: i64| asked > 0 && used + asked > total;
        let shortages = [
            (load.pods >= self.pods_max, Obstacle::PodCount),
            (short(request.cpu_milli, used.cpu_milli, total.cpu_milli), Obstacle::Cpu),
            (short(request.memory_bytes, used.memory_bytes, total.memory_bytes), Obstacle::Memory),
        ];
        let found: Vec<Obstacle> =
            shortages.into_iter().filter(|(is_short, _)| *is_short).map(|(_, what)| what).collect();
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// What would be left, mean of CPU and memory, in thousandths.
    fn free_permille(&self, footprint: &Footprint) -> i64 {
        let after = self.load.used.plus(footprint.request);
        let share = |used: i64, total: i64| {
            if total <= 0 {
                0
            } else {
                ((total - used).max(0) as i128 * 1_000 / total as i128) as i64
            }
        };
        (share(after.cpu_milli, self.total.cpu_milli)
            + share(after.memory_bytes, self.total.memory_bytes))
            / 2
    }
}

/// The uid of the object that made the pod and would replace it.
fn owner(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

#[cfg(test)]
#[path = "schedule/tests.rs"]
mod tests;
