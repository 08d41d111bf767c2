//! What the engine shows of one pod, as the pure decisions see it.
//!
//! Everything here is read from the engine's labels and states; nothing is remembered.
//! That is why a restarted agent decides exactly as the one before it would have.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub exit_code: i32,
    pub oom_killed: bool,
    /// Why its start was refused; empty when it did start.
    pub start_error: String,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// What the program left as its last words.
    pub message: Option<String>,
}

impl Ended {
    /// How long it ran.
    pub fn ran_for(&self) -> Duration {
        match (self.started_at, self.finished_at) {
            (Some(start), Some(end)) => {
                Duration::try_from(end.duration_since(start)).unwrap_or(Duration::ZERO)
            }
            _ => Duration::ZERO,
        }
    }
}

/// Where a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FactState {
    /// Made, not started: the agent stopped between the two.
    Created,
    Running {
        started_at: Option<Timestamp>,
    },
    Ended(Ended),
}

/// One attempt of one container of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerFact {
    pub id: String,
    /// The container's name in the pod.
    pub name: String,
    /// 0 for the first, one more for every restart.
    pub attempt: u32,
    /// See [`super::restart::next_step`].
    pub restart_step: u32,
    /// Id of the pause container whose namespaces it lives in.
    pub sandbox_id: String,
    /// Image as the pod's spec named it when this attempt was made.
    pub spec_image: String,
    /// Image as it was pulled, by digest.
    pub pulled_image: String,
    pub state: FactState,
}

impl ContainerFact {
    pub fn is_running(&self) -> bool {
        matches!(self.state, FactState::Running { .. })
    }

    pub fn ended(&self) -> Option<&Ended> {
        match &self.state {
            FactState::Ended(ended) => Some(ended),
            FactState::Created | FactState::Running { .. } => None,
        }
    }
}

/// One pause container of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxFact {
    pub id: String,
    pub attempt: u32,
    pub state: FactState,
}

/// All containers of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    pub sandboxes: Vec<SandboxFact>,
    pub containers: Vec<ContainerFact>,
}

impl PodFacts {
    /// The newest pause container; older ones are leftovers.
    pub fn sandbox(&self) -> Option<&SandboxFact> {
        self.sandboxes.iter().max_by_key(|sandbox| sandbox.attempt)
    }

    /// The newest attempt of a container.
    pub fn latest(&self, name: &str) -> Option<&ContainerFact> {
        self.containers
            .iter()
            .filter(|container| container.name == name)
            .max_by_key(|container| container.attempt)
    }

    /// The newest attempt before the newest.
    pub fn previous(&self, name: &str) -> Option<&ContainerFact> {
        let latest = self.latest(name)?.attempt;
        self.containers
            .iter()
            .filter(|container| container.name == name && container.attempt < latest)
            .max_by_key(|container| container.attempt)
    }

    /// Nothing of the pod is left in the engine.
    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }
}

/// What the probes say, by container id. A container without a probe of some kind is
/// absent from its set; the readers here know which kinds it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    pub failed_liveness: BTreeSet<String>,
    pub failed_startup: BTreeSet<String>,
    pub started: BTreeSet<String>,
    pub ready: BTreeSet<String>,
}
