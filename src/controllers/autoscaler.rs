//! Scales workloads by what their pods use.
//!
//! Every autoscaler is looked at when it changes and every [`AUTOSCALER_PERIOD`]. What was
//! proposed and done before is remembered by the leader alone, as Kubernetes' controller
//! does: a new leader begins its windows anew.
//! Invariants: the target is written through its scale subresource and guarded by the
//! version that was looked at; when nothing is known nothing is done.
//! Not here: how many (`logic/autoscale`), who measures (`client/usage`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::autoscaler_metrics::{self as metrics, MetricContext};
use super::autoscaler_status::Draft;
use super::collection::CustomKindsWatch;
use super::disruption::selects;
use super::graph::resource_of;
use super::informers::Informers;
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::base::limits::AUTOSCALER_PERIOD;
use crate::client::api::{ListOptions, PatchKind, ResourceRef, SharedApi};
use crate::client::events::{EventRecorder, Severity, reference_of};
use crate::client::informer::Informer;
use crate::client::key::ObjectKey;
use crate::client::usage::SharedUsage;
use crate::logic::autoscale::behavior::{Behavior, Bounds, Memory};
use crate::logic::selector::LabelSelector;
use crate::model::kinds::{self, Subresource};
use crate::sys::clock;

pub(super) const AUTOSCALERS: ResourceRef = ResourceRef::of::<HorizontalPodAutoscaler>(true);

#[derive(Debug)]
pub(super) struct Autoscalers {
    api: SharedApi,
    pub(super) autoscalers: Informer<Value>,
    informers: Informers,
    events: EventRecorder,
    /// Nobody measures where there is none.
    usage: Option<SharedUsage>,
    custom: Option<CustomKindsWatch>,
    memory: Mutex<HashMap<ObjectKey, Memory>>,
    /// Of all targets, to notice those that share pods.
    selectors: Mutex<BTreeMap<ObjectKey, LabelSelector>>,
    epoch: Instant,
}

/// What an autoscaler is about.
struct Target {
    resource: ResourceRef,
    name: String,
    /// `autoscaling/v1` `Scale`.
    scale: Value,
}

/// An event's reason, the condition's, and the message of both.
type Wrong = (&'static str, &'static str, String);

/// What a look at an autoscaler came to.
struct Outcome {
    desired: i64,
    rescaled: bool,
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Autoscalers {
    pub(super) fn new(
        api: &SharedApi,
        informers: &Informers,
        events: EventRecorder,
        usage: Option<SharedUsage>,
        custom: Option<CustomKindsWatch>,
    ) -> Self {
        Self {
            autoscalers: Informer::new(api.clone(), AUTOSCALERS, ListOptions::default()),
            api: api.clone(),
            informers: informers.clone(),
            events,
            usage,
            custom,
            memory: Mutex::default(),
            selectors: Mutex::default(),
            epoch: Instant::now(),
        }
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<ObjectKey, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, autoscaler: &Value, severity: Severity, reason: &str, text: String) {
        self.events.record_about(reference_of(autoscaler), severity, reason, text);
    }

    /// A kind that a definition makes; its scale reads the same in every version.
    fn custom_kind(&self, api_version: &str, name: &str) -> Option<&'static kinds::Kind> {
        let group = api_version.split_once('/')?.0;
        let kinds = self.custom.as_ref()?.borrow().clone();
        kinds.iter().find(|kind| kind.group == group && kind.kind == name).copied()
    }

    /// The target's scale; an empty patch reads a subresource of any kind.
    async fn target(&self, key: &ObjectKey, autoscaler: &Value) -> Result<Target, String> {
        let at = |field: &str| text(autoscaler, &format!("/spec/scaleTargetRef/{field}"));
        let (version, name) = (at("apiVersion"), at("name").to_owned());
        let version = if version.is_empty() { "v1" } else { version };
        let kind =
            kinds::by_kind(version, at("kind")).or_else(|| self.custom_kind(version, at("kind")));
        let Some(kind) = kind.filter(|kind| kind.has(Subresource::Scale)) else {
            let group = version.split_once('/').map_or("", |(group, _)| group);
            return Err(match kind {
                Some(_) => "the server could not find the requested resource".to_owned(),
                None => format!("no matches for kind {:?} in group {group:?}", at("kind")),
            });
        };
        let resource = ResourceRef { namespaced: true, ..resource_of(kind) };
        let (scope, nothing) = (key.scope(), json!({}));
        let part = Some(Subresource::Scale.name());
        let read = self.api.patch(&resource, scope, &name, part, PatchKind::Merge, &nothing).await;
        let scale = read.map_err(|error| error.to_string())?;
        Ok(Target { resource, name, scale })
    }

    async fn set_scale(
        &self,
        key: &ObjectKey,
        target: &Target,
        replicas: i64,
    ) -> Result<(), String> {
        let mut scale = target.scale.clone();
        scale["spec"]["replicas"] = replicas.into();
        let part = Some(Subresource::Scale.name());
        let (resource, name) = (&target.resource, &target.name);
        let written = self.api.update(resource, key.scope(), name, part, &scale).await;
        written.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Looks, decides, scales; the draft gets conditions and metrics on the way.
    async fn step(
        &self,
        key: &ObjectKey,
        autoscaler: &Value,
        draft: &mut Draft,
    ) -> Option<Outcome> {
        let target = match self.target(key, autoscaler).await {
            Ok(target) => target,
            Err(why) => {
                self.say(autoscaler, Severity::Warning, "FailedGetScale", why.clone());
                let text = format!(
                    "the HPA controller was unable to get the target's current scale: {why}"
                );
                draft.condition("AbleToScale", false, "FailedGetScale", &text);
                return None;
            }
        };
        let text = "the HPA controller was able to get the target's current scale";
        draft.condition("AbleToScale", true, "SucceededGetScale", text);
        let number = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_i64);
        let current = number(&target.scale, "/spec/replicas").unwrap_or(0);
        draft.current = number(&target.scale, "/status/replicas").unwrap_or(0);
        let at = Bounds {
            current,
            min: number(autoscaler, "/spec/minReplicas").unwrap_or(1),
            max: number(autoscaler, "/spec/maxReplicas").unwrap_or(1),
        };
        let now = self.epoch.elapsed();
        self.memory().entry(key.clone()).or_default().begin(now, current);
        let behavior = autoscaler.pointer("/spec/behavior").filter(|rules| !rules.is_null());
        let behavior = behavior.map(Behavior::parse);
        let (desired, reason) = if current == 0 && at.min != 0 {
            let text = "scaling is disabled since the replica count of the target is zero";
            draft.condition("ScalingActive", false, "ScalingDisabled", text);
            return Some(Outcome { desired: 0, rescaled: false });
        } else if current > at.max {
            (at.max, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if current < at.min {
            (at.min, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            let (proposed, metric) = self.proposal(key, autoscaler, &target, at, draft).await?;
            let reason = if proposed > current {
                format!("{metric} above target")
            } else {
                "All metrics below target".to_owned()
            };
            let mut memory = self.memory();
            let memory = memory.entry(key.clone()).or_default();
            let found = memory.decide(now, behavior.as_ref(), at, proposed);
            draft.condition("AbleToScale", true, found.able.0, found.able.1);
            draft.condition("ScalingLimited", found.limited, found.limit.0, found.limit.1);
            (found.count, reason)
        };
        if desired == current {
            return Some(Outcome { desired, rescaled: false });
        }
        if let Err(error) = self.set_scale(key, &target, desired).await {
            let text = format!("New size: {desired}; reason: {reason}; error: {error}");
            self.say(autoscaler, Severity::Warning, "FailedRescale", text);
            let text = format!("the HPA controller was unable to update the target scale: {error}");
            draft.condition("AbleToScale", false, "FailedUpdateScale", &text);
            return None;
        }
        let text = format!("the HPA controller was able to update the target scale to {desired}");
        draft.condition("AbleToScale", true, "SucceededRescale", &text);
        let text = format!("New size: {desired}; reason: {reason}");
        self.say(autoscaler, Severity::Normal, "SuccessfulRescale", text);
        let mut memory = self.memory();
        memory.entry(key.clone()).or_default().changed(now, behavior.as_ref(), current, desired);
        Some(Outcome { desired, rescaled: true })
    }

    /// The pods of the target, or what is wrong with its selector: an event's reason, the
    /// condition's, and the message of both.
    fn pods_of(&self, key: &ObjectKey, text: &str) -> (Vec<Arc<Pod>>, Option<Wrong>) {
        if text.is_empty() {
            let text = "the HPA target's scale is missing a selector".to_owned();
            return (Vec::new(), Some(("SelectorRequired", "InvalidSelector", text)));
        }
        let Ok(selector) = LabelSelector::parse(text) else {
            let text = format!(
                "couldn't convert selector into a corresponding internal selector object: {text}"
            );
            return (Vec::new(), Some(("InvalidSelector", "InvalidSelector", text)));
        };
        let mut pods: Vec<Arc<Pod>> = self.informers.pods.list_namespace(&key.namespace);
        pods.retain(|pod| selects(&selector, pod));
        let mut selectors = self.selectors.lock().unwrap_or_else(PoisonError::into_inner);
        selectors.insert(key.clone(), selector);
        let shares = |(other, selector): &(&ObjectKey, &LabelSelector)| {
            other.namespace == key.namespace && pods.iter().any(|pod| selects(selector, pod))
        };
        let sharing: Vec<String> =
            selectors.iter().filter(shares).map(|(other, _)| other.to_string()).collect();
        if sharing.len() < 2 {
            return (pods, None);
        }
        let text = format!(
            "pods by selector {text} are controlled by multiple HPAs: [{}]",
            sharing.join(" ")
        );
        (pods, Some(("AmbiguousSelector", "AmbiguousSelector", text)))
    }

    /// The highest of the metrics' proposals and its metric's name.
    async fn proposal(
        &self,
        key: &ObjectKey,
        autoscaler: &Value,
        target: &Target,
        at: Bounds,
        draft: &mut Draft,
    ) -> Option<(i64, String)> {
        let selector = text(&target.scale, "/status/selector");
        let failed = |draft: &mut Draft, reason: &str, message: &str| {
            draft.condition("ScalingActive", false, reason, message);
        };
        let (pods, wrong) = self.pods_of(key, selector);
        if let Some((event, reason, message)) = wrong {
            self.say(autoscaler, Severity::Warning, event, message.clone());
            failed(draft, reason, &message);
            return None;
        }
        let usage = metrics::usage_of(self.usage.as_ref(), &pods).await;
        let context = MetricContext {
            pods: &pods,
            usage: &usage,
            replicas: at.current,
            behavior: autoscaler.pointer("/spec/behavior").unwrap_or(&Value::Null),
            now: clock::now(),
        };
        let judged = metrics::judge(&context, autoscaler);
        draft.metrics = judged.statuses;
        for (reason, text) in &judged.failures {
            self.say(autoscaler, Severity::Warning, reason, text.clone());
        }
        match judged.result {
            Ok((replicas, metric)) => {
                let text = format!(
                    "the HPA was able to successfully calculate a replica count from {metric}"
                );
                draft.condition("ScalingActive", true, "ValidMetricFound", &text);
                Some((replicas, metric))
            }
            Err(failure) => {
                failed(draft, failure.reason, &failure.condition);
                let reason = "FailedComputeMetricsReplicas";
                self.say(autoscaler, Severity::Warning, reason, failure.whole);
                None
            }
        }
    }
}

#[async_trait]
impl Controller for Autoscalers {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "horizontal-pod-autoscaler"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let differ = |old: &Value, new: &Value| old["spec"] != new["spec"];
        vec![Input::on_difference(&self.autoscalers, differ, |key, _| vec![key.clone()])]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(autoscaler) = self.autoscalers.get_key(key) else {
            self.memory().remove(key);
            self.selectors.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Ok(Requeue::Done);
        };
        let mut draft = Draft::of(&autoscaler, clock::now());
        let outcome = self.step(key, &autoscaler, &mut draft).await;
        let (desired, rescaled) = match outcome {
            Some(outcome) => (Some(outcome.desired), outcome.rescaled),
            None => (None, false),
        };
        if let Some(status) = draft.status(desired, rescaled) {
            let mut changed = (*autoscaler).clone();
            changed["status"] = status;
            let written = self
                .api
                .update(&AUTOSCALERS, key.scope(), &key.name, Some("status"), &changed)
                .await;
            match written {
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                other => {
                    other.act("write the status of", key)?;
                }
            }
        }
        Ok(Requeue::After(AUTOSCALER_PERIOD))
    }
}
