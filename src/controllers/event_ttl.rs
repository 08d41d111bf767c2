//! Removes events an hour after they last happened.
//!
//! Why by wall clock: the age is what people see in the event itself, and a wrong clock
//! costs history at worst, never safety.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;

use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::base::limits;
use crate::client::api::{DeleteOptions, ListOptions, ResourceRef, SharedApi};
use crate::client::informer::Informer;
use crate::client::key::ObjectKey;
use crate::client::typed::Kind;
use crate::sys::clock;

const EVENTS: ResourceRef = k8s_openapi::api::core::v1::Event::REF;

/// An event as far as its age is concerned.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dated {
    #[serde(default)]
    last_timestamp: Option<Timestamp>,
    #[serde(default)]
    event_time: Option<Timestamp>,
    metadata: Created,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    #[serde(default)]
    creation_timestamp: Option<Timestamp>,
    #[serde(default)]
    uid: Option<String>,
}

impl Dated {
    fn last_happened(&self) -> Option<Timestamp> {
        let times = [self.last_timestamp, self.event_time, self.metadata.creation_timestamp];
        times.into_iter().flatten().max()
    }
}

#[derive(Debug)]
pub(super) struct EventTtl {
    api: SharedApi,
    pub(super) events: Informer<Dated>,
}

impl EventTtl {
    pub(super) fn new(api: &SharedApi) -> Self {
        let events = Informer::new(api.clone(), EVENTS, ListOptions::default());
        Self { api: api.clone(), events }
    }
}

#[async_trait]
impl Controller for EventTtl {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "event-ttl"
    }

    fn workers(&self) -> usize {
        1
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        vec![Input::new(&self.events, |key, _| vec![key.clone()])]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(event) = self.events.get_key(key) else { return Ok(Requeue::Done) };
        let Some(happened) = event.last_happened() else { return Ok(Requeue::Done) };
        let age = clock::now().duration_since(happened);
        let age = Duration::try_from(age).unwrap_or_default();
        let left = limits::EVENT_TTL.saturating_sub(age);
        if !left.is_zero() {
            return Ok(Requeue::After(left));
        }
        let options = DeleteOptions { uid: event.metadata.uid.clone(), ..DeleteOptions::default() };
        match self.api.delete(&EVENTS, key.scope(), &key.name, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                Err(error).act("remove old event", key)
            }
            _ => Ok(Requeue::Done),
        }
    }
}
