//! The steps of a rollout: rolling, all at once, and scaling in the middle of one.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::{Deployments, Rollout, annotations, available, occupied, wanted};
use crate::client::typed::Kind;
use crate::controllers::informers::BY_CONTROLLER;
use crate::controllers::runner::ControllerError;
use crate::logic::rollout::{self, ScaledSet, SetState};
use crate::logic::rollout_ranking::is_ended;

/// The Deployment's size changed since a running set was last sized.
pub(super) fn was_rescaled(rollout: &Rollout) -> bool {
    rollout.all().filter(|set| wanted(set) > 0).any(|set| {
        let noted = annotations::number(&set.metadata, annotations::DESIRED);
        noted.is_some_and(|noted| noted != i64::from(rollout.desired))
    })
}

fn state(set: &ReplicaSet) -> SetState {
    SetState { wanted: wanted(set), available: available(set) }
}

impl Deployments {
    pub(super) async fn step_rolling(&self, rollout: &mut Rollout) -> Result<(), ControllerError> {
        self.refresh_new(rollout, true).await?;
        let Some(new) = rollout.new.clone() else { return Ok(()) };
        let total = rollout.all().map(|set| occupied(set)).sum();
        let size = rollout::new_set_size(rollout.desired, rollout.bounds, state(&new), total);
        if size != wanted(&new) {
            rollout.new = Some(self.resize(rollout, &new, size).await?);
            return Ok(());
        }
        let states: Vec<SetState> = rollout.old.iter().map(|set| state(set)).collect();
        let sizes = rollout::old_set_sizes(rollout.desired, rollout.bounds, state(&new), &states);
        self.resize_old(rollout, &sizes).await
    }

    async fn resize_old(
        &self,
        rollout: &mut Rollout,
        sizes: &[i32],
    ) -> Result<(), ControllerError> {
        for (at, size) in sizes.iter().enumerate() {
            if *size != wanted(&rollout.old[at]) {
                let set = Arc::clone(&rollout.old[at]);
                rollout.old[at] = self.resize(rollout, &set, *size).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn step_recreate(&self, rollout: &mut Rollout) -> Result<(), ControllerError> {
        self.refresh_new(rollout, false).await?;
        let running = rollout.old.iter().any(|set| wanted(set) > 0);
        let zeros = vec![0; rollout.old.len()];
        self.resize_old(rollout, &zeros).await?;
        if running || self.old_pods_run(rollout) {
            return Ok(());
        }
        self.refresh_new(rollout, true).await?;
        if let Some(new) = rollout.new.clone()
            && wanted(&new) != rollout.desired
        {
            rollout.new = Some(self.resize(rollout, &new, rollout.desired).await?);
        }
        Ok(())
    }

    /// A pod of an old set still runs or is still leaving.
    fn old_pods_run(&self, rollout: &Rollout) -> bool {
        rollout.old.iter().any(|set| {
            let counted = set.status.as_ref().map_or(0, |status| status.replicas) > 0;
            let pods = self.informers.pods.by_index(BY_CONTROLLER, set.uid());
            counted || pods.iter().any(|pod| !is_ended(pod))
        })
    }

    /// Follows a change of the Deployment's size without moving the rollout on.
    pub(super) async fn rescale(&self, rollout: &mut Rollout) -> Result<(), ControllerError> {
        let running: Vec<Arc<ReplicaSet>> =
            rollout.all().filter(|set| wanted(set) > 0).cloned().collect();
        if running.len() <= 1 {
            let only = running.first().or(rollout.new.as_ref()).or(rollout.old.last()).cloned();
            if let Some(only) = only {
                let resized = self.resize(rollout, &only, rollout.desired).await?;
                replace(rollout, resized);
            }
            return Ok(());
        }
        let saturated = rollout.new.as_ref().is_some_and(|new| {
            let noted = annotations::number(&new.metadata, annotations::DESIRED);
            noted == Some(i64::from(rollout.desired))
                && wanted(new) == rollout.desired
                && available(new) == rollout.desired
        });
        if saturated {
            let zeros = vec![0; rollout.old.len()];
            return self.resize_old(rollout, &zeros).await;
        }
        if rollout.recreates() {
            return Ok(());
        }
        self.rescale_proportionally(rollout, running).await
    }

    async fn rescale_proportionally(
        &self,
        rollout: &mut Rollout,
        mut running: Vec<Arc<ReplicaSet>>,
    ) -> Result<(), ControllerError> {
        let total: i32 = running.iter().map(|set| wanted(set)).sum();
        let growing = rollout.desired.saturating_add(rollout.bounds.max_surge) > total;
        running.sort_by_cached_key(|set| {
            let created = set.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
            let created = created.unwrap_or_default();
            let age = if growing { -created } else { created };
            (Reverse(wanted(set)), age, set.metadata.name.clone())
        });
        let scaled: Vec<ScaledSet> = running
            .iter()
            .map(|set| {
                let noted = annotations::number(&set.metadata, annotations::MAX);
                let max_replicas = noted.and_then(|noted| i32::try_from(noted).ok());
                ScaledSet { wanted: wanted(set), max_replicas }
            })
            .collect();
        let sizes = rollout::proportional_sizes(rollout.desired, rollout.bounds.max_surge, &scaled);
        for (set, size) in running.iter().zip(sizes) {
            // Also where the size stays: the note of the wanted size must follow.
            let resized = self.resize(rollout, set, size).await?;
            replace(rollout, resized);
        }
        Ok(())
    }
}

/// Puts the newer form of a set in the place of the older one.
fn replace(rollout: &mut Rollout, set: Arc<ReplicaSet>) {
    let same = |held: &Arc<ReplicaSet>| held.metadata.uid == set.metadata.uid;
    if rollout.new.as_ref().is_some_and(same) {
        rollout.new = Some(set);
    } else if let Some(at) = rollout.old.iter().position(same) {
        rollout.old[at] = set;
    }
}
