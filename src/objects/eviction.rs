//! Eviction: a pod's deletion that asks its disruption budget first.
//!
//! ```text
//! exempt, or no budget  ──────────────────────────────────► delete
//! not ready, and the budget lets it go ──► guarded by version ► delete
//! else: one less allowed in the budget's status, guarded by its revision ► delete
//! ```
//! Invariant: two evictions at once, also through two control nodes, cannot both take the
//! last disruption, because each takes it by a write that the other's makes fail.
//! Not here: how many disruptions there are (`logic/disruption`, its controller).

use serde_json::{Value, json};

use super::delete::DeleteRequest;
use super::update::Part;
use super::{Address, ListRequest, Objects, WriteOptions, stored, str_at};
use crate::logic::disruption::{self, Denied};
use crate::logic::selector::LabelSelector;
use crate::model::kinds::{self, Kind};
use crate::model::status::{Status, StatusCause, StatusDetails};
use crate::sys::clock;

/// Attempts before a pod that keeps changing is given up.
const ATTEMPTS: usize = 10;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const SEVERAL: &str = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";

fn budgets() -> &'static Kind {
    kinds::by_path("policy", "v1", "poddisruptionbudgets")
        .expect("disruption budgets are in the table of kinds")
}

/// 429, with the cause that clients look for.
fn not_now(why: String, retry_after_seconds: u32) -> Status {
    let mut status = Status::failure(429, "TooManyRequests", REFUSED);
    let cause =
        StatusCause { reason: "DisruptionBudget".into(), message: why, field: String::new() };
    status.details = Some(StatusDetails { causes: vec![cause], ..StatusDetails::default() });
    if retry_after_seconds > 0 { status.retry_after(retry_after_seconds) } else { status }
}

/// What an evicted pod says about its end.
fn evicted() -> Value {
    json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": stored::timestamp(),
    })
}

impl Objects {
    /// `POST pods/NAME/eviction`.
    pub async fn evict(&self, pod: &Address, request: &DeleteRequest) -> Result<(), Status> {
        let request = DeleteRequest { condition: Some(evicted()), ..request.clone() };
        for _ in 0..ATTEMPTS {
            let found = self.fetch(pod).await?.ok_or_else(|| pod.not_found())?;
            super::delete::check_preconditions(pod, &found, &request)?;
            let object = &found.object;
            let mut guarded = request.clone();
            let may_race = request.resource_version.is_none();
            let as_seen = || Some(found.revision.to_string());
            if disruption::is_exempt(object) {
                // What was pending may run by the time it is deleted.
                if str_at(object, "/status/phase") == "Pending" {
                    guarded.resource_version = as_seen();
                }
            } else if let Some(budget) = self.budget_of(object, &pod.namespace).await? {
                if !disruption::is_ready(object) && disruption::lets_unhealthy_go(&budget) {
                    guarded.resource_version = as_seen();
                } else {
                    self.take_disruption(&budget, pod, request.dry_run).await?;
                }
            }
            let raced = guarded.resource_version != request.resource_version && may_race;
            match self.delete(pod, &guarded).await {
                Err(status) if status.is_conflict() && raced => {}
                outcome => return outcome.map(|_| ()),
            }
        }
        Err(Status::timeout("the pod changed too often while it was evicted; try again")
            .retry_after(1))
    }

    /// The budget that selects the pod; there may be one at most.
    async fn budget_of(&self, pod: &Value, namespace: &str) -> Result<Option<Value>, Status> {
        let request = ListRequest::selecting(budgets(), Some(namespace), "", "")?;
        let mut selecting = Vec::new();
        for budget in self.list(&request).await?.items {
            let Some(selector) = budget.pointer("/spec/selector") else { continue };
            if LabelSelector::from_object(selector).is_ok_and(|selector| selector.matches(pod)) {
                selecting.push(budget);
            }
        }
        if selecting.len() > 1 {
            return Err(Status::failure(500, "InternalError", SEVERAL));
        }
        Ok(selecting.pop())
    }

    async fn take_disruption(
        &self,
        budget: &Value,
        pod: &Address,
        dry_run: bool,
    ) -> Result<(), Status> {
        let name = str_at(budget, "/metadata/name");
        let address = Address::new(budgets(), Some(&pod.namespace), name);
        // The record of the deed is that of the pod's deletion.
        let options = WriteOptions { dry_run, ..WriteOptions::default() };
        let taken = self
            .modify(&address, Part::Server, &options, |current| {
                let mut next = current.clone();
                next["status"] =
                    disruption::take(current, &pod.name, clock::now()).map_err(|denied| {
                        match denied {
                            Denied::NotNow { why, retry_after_seconds } => {
                                not_now(why, retry_after_seconds)
                            }
                            Denied::Broken(why) => {
                                Status::forbidden("poddisruptionbudgets", "policy", name, &why)
                            }
                        }
                    })?;
                Ok(next)
            })
            .await;
        match taken {
            Ok(_) => Ok(()),
            // It went, and with it its say.
            Err(status) if status.is_not_found() => Ok(()),
            Err(status) if status.code == 504 => Err(not_now(
                format!("The disruption budget {name} is being changed by others too often."),
                1,
            )),
            Err(status) => Err(status),
        }
    }
}

#[cfg(test)]
#[path = "eviction_tests.rs"]
mod tests;
