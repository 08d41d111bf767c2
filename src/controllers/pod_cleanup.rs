//! Removes pods that nobody will ever finish: too many ended ones, and deleted ones that
//! never reached a node.
//!
//! Not here: pods of dead or deleted nodes (node_life.rs).

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;

use super::informers::{Informers, node_of};
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::base::limits;
use crate::client::api::SharedApi;
use crate::client::typed::{Kind, Typed};
use crate::logic::rollout_ranking::is_ended;

#[derive(Debug)]
pub(super) struct PodCleanup {
    informers: Informers,
    pods: Typed<Pod>,
}

impl PodCleanup {
    pub(super) fn new(api: &SharedApi, informers: &Informers) -> Self {
        Self { informers: informers.clone(), pods: Typed::new(api.clone()) }
    }
}

fn never_started(pod: &Pod) -> bool {
    pod.is_terminating() && node_of(pod).is_none()
}

#[async_trait]
impl Controller for PodCleanup {
    /// There is one thing to do: a round.
    type Key = &'static str;

    fn name(&self) -> &'static str {
        "pod-cleanup"
    }

    fn workers(&self) -> usize {
        1
    }

    fn inputs(&self) -> Vec<Input<&'static str>> {
        vec![Input::new(&self.informers.pods, |_, pod: &Pod| {
            if is_ended(pod) || never_started(pod) { vec!["round"] } else { Vec::new() }
        })]
    }

    async fn reconcile(&self, _: &&'static str) -> Result<Requeue, ControllerError> {
        let pods = self.informers.pods.list();
        let (mut ended, mut doomed): (Vec<Arc<Pod>>, Vec<Arc<Pod>>) = (Vec::new(), Vec::new());
        for pod in pods {
            if never_started(&pod) {
                doomed.push(pod);
            } else if is_ended(&pod) && !pod.is_terminating() {
                ended.push(pod);
            }
        }
        ended.sort_by_cached_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|t| t.0));
        let surplus = ended.len().saturating_sub(limits::ENDED_PODS_KEPT);
        doomed.extend(ended.drain(..surplus));
        for pod in doomed {
            self.pods.delete_if_same(&*pod, Some(0)).await.act("remove pod", &pod.key())?;
        }
        Ok(Requeue::Done)
    }
}
