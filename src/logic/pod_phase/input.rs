//! What a pod's status is made from, and what its phase and its conditions both ask of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::logic::restart_facts::{ContainerFact, PodFacts, Verdicts};
use crate::logic::restart_plan::{Waiting, is_sidecar};

/// All that a status depends on.
#[derive(Clone, Copy, Debug)]
pub struct StatusInput<'a> {
    /// With the status that the API has now.
    pub pod: &'a Pod,
    pub facts: &'a PodFacts,
    pub verdicts: &'a Verdicts,
    /// Why containers wait, by name; see `restart_plan`.
    pub waiting: &'a BTreeMap<String, Waiting>,
    pub host_ip: &'a str,
    /// `None` while the pod has no address.
    pub pod_ip: Option<&'a str>,
    /// The pod is being ended, nothing is restarted any more.
    pub ending: bool,
    /// Why the node ends the pod, if it does because it runs out of something.
    pub evicted: Option<&'a str>,
    pub now: Timestamp,
}

/// Cut to whole seconds.
pub fn seconds(moment: Timestamp) -> Time {
    Time(Timestamp::from_second(moment.as_second()).unwrap_or(moment))
}

/// All init containers have succeeded, or the others have begun, which implies it.
pub(super) fn init_complete(spec: &PodSpec, facts: &PodFacts) -> bool {
    let begun = spec.containers.iter().any(|container| facts.latest(&container.name).is_some());
    begun
        || spec.init_containers.iter().flatten().all(|container| {
            let fact = facts.latest(&container.name);
            if is_sidecar(container) {
                fact.is_some_and(ContainerFact::is_running)
            } else {
                fact.and_then(ContainerFact::ended).is_some_and(|ended| ended.exit_code == 0)
            }
        })
}
