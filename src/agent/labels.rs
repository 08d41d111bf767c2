//! The names and labels that tie containers to pods.
//!
//! Why these: they are cri-dockerd's and the kubelet's, so docker tooling shows familiar
//! names; ours (`io.holdfast.*`) carry what a restarted agent must know and cannot
//! compute. Invariant: nothing about a container is remembered anywhere else.

use std::collections::BTreeMap;

use crate::engine::port::{Container as EngineContainer, RunState};
use crate::logic::restart_facts::{ContainerFact, Ended, FactState, SandboxFact};

pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub(crate) const DOCKER_TYPE: &str = "io.kubernetes.docker.type";
pub(crate) const SANDBOX_ID: &str = "io.kubernetes.sandbox.id";
pub(crate) const ATTEMPT: &str = "io.kubernetes.container.restartCount";
/// Seconds that a pod has to end.
pub const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Which agent made it; keeps two agents on one engine apart.
pub const NODE: &str = "io.holdfast.node";
pub(crate) const RESTART_STEP: &str = "io.holdfast.restart-step";
pub(crate) const SPEC_IMAGE: &str = "io.holdfast.image.name";
pub(crate) const PULLED_IMAGE: &str = "io.holdfast.image.pulled";

/// `io.kubernetes.docker.type` of a pause container.
pub(crate) const SANDBOX: &str = "podsandbox";
/// `io.kubernetes.docker.type` of a member.
pub(crate) const MEMBER: &str = "container";
/// The pause container's own name in container names.
pub(crate) const PAUSE: &str = "POD";

/// Whose containers these are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodIdentity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodIdentity {
    pub(crate) fn of(labels: &BTreeMap<String, String>) -> Option<Self> {
        let read = |key: &str| labels.get(key).cloned();
        Some(Self { namespace: read(POD_NAMESPACE)?, name: read(POD_NAME)?, uid: read(POD_UID)? })
    }

    /// `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`.
    pub(crate) fn container_name(&self, container: &str, attempt: u32) -> String {
        format!("k8s_{container}_{}_{}_{}_{attempt}", self.name, self.namespace, self.uid)
    }

    /// The labels that all containers of the pod share.
    pub(crate) fn labels(&self, node: &str, grace_seconds: i64) -> BTreeMap<String, String> {
        [
            (POD_NAME, self.name.clone()),
            (POD_NAMESPACE, self.namespace.clone()),
            (POD_UID, self.uid.clone()),
            (GRACE, grace_seconds.to_string()),
            (NODE, node.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

fn number(labels: &BTreeMap<String, String>, key: &str) -> u32 {
    labels.get(key).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn text(labels: &BTreeMap<String, String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}

pub(crate) fn is_sandbox(labels: &BTreeMap<String, String>) -> bool {
    labels.get(DOCKER_TYPE).is_some_and(|kind| kind == SANDBOX)
}

/// A created container whose start was refused has ended, as far as restarts go.
fn fact_state(container: &EngineContainer, message: Option<String>) -> Option<FactState> {
    let ended = || Ended {
        exit_code: container.exit_code,
        oom_killed: container.oom_killed,
        start_error: container.start_error.clone(),
        started_at: container.started_at,
        finished_at: container.finished_at.or(container.created_at),
        message,
    };
    match container.state {
        RunState::Running => Some(FactState::Running { started_at: container.started_at }),
        RunState::Created if container.start_error.is_empty() => Some(FactState::Created),
        RunState::Created => {
            let mut ended = ended();
            if ended.exit_code == 0 {
                ended.exit_code = 128;
            }
            Some(FactState::Ended(ended))
        }
        RunState::Exited => {
            let mut ended = ended();
            ended.start_error.clear();
            Some(FactState::Ended(ended))
        }
        RunState::Removing => None,
    }
}

pub(crate) fn sandbox_fact(container: &EngineContainer) -> Option<SandboxFact> {
    Some(SandboxFact {
        id: container.id.clone(),
        attempt: number(&container.labels, ATTEMPT),
        state: fact_state(container, None)?,
    })
}

pub(crate) fn container_fact(
    container: &EngineContainer,
    message: Option<String>,
) -> Option<ContainerFact> {
    let labels = &container.labels;
    Some(ContainerFact {
        id: container.id.clone(),
        name: text(labels, CONTAINER_NAME),
        attempt: number(labels, ATTEMPT),
        restart_step: number(labels, RESTART_STEP),
        sandbox_id: text(labels, SANDBOX_ID),
        spec_image: text(labels, SPEC_IMAGE),
        pulled_image: text(labels, PULLED_IMAGE),
        state: fact_state(container, message)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cri_dockerds() {
        let pod =
            PodIdentity { namespace: "default".into(), name: "web-1".into(), uid: "u-1".into() };
        assert_eq!(pod.container_name(PAUSE, 0), "k8s_POD_web-1_default_u-1_0");
        assert_eq!(PodIdentity::of(&pod.labels("n", 30)), Some(pod));
    }
}
