//! Keeps a StatefulSet's pods: stable names, in order, never one of them twice.
//!
//! Why a pod cannot run twice: its name is made from its ordinal, and the API has one
//! object of a name; the object of a pod on a silent node stays until that node's agent
//! says that the containers are gone, the node is fenced, or its Node object is deleted
//! (node_life.rs).
//! Not here: the order of the steps (logic/stateful.rs); the history (revisions.rs).

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use serde_json::json;

use super::expectations::Belief;
use super::informers::Informers;
use super::ownership;
use super::pod_control::{self, Deed, PodControl};
use super::revisions::{self, History, Revisions};
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use super::set_claims::{self, SetClaims};
use super::status;
use crate::base::limits;
use crate::client::api::{ApiError, SharedApi};
use crate::client::events::{EventRecorder, Severity};
use crate::client::key::ObjectKey;
use crate::client::typed::Kind;
use crate::logic::availability::Availability;
use crate::logic::rollout::resolve;
use crate::logic::rollout_ranking::is_ended;
use crate::logic::stateful::{Member, Reason, Step, Template, Update, Wanted, ordinal_of, plan};
use crate::sys::clock;

/// The label that names a pod's revision.
const REVISION: &str = "controller-revision-hash";
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

#[derive(Debug)]
pub(super) struct StatefulSets {
    informers: Informers,
    control: PodControl<StatefulSet>,
    history: Revisions<StatefulSet>,
    claims: SetClaims,
}

/// A set with what is derived from it once.
struct View<'a> {
    set: &'a StatefulSet,
    pods: Vec<Arc<Pod>>,
    history: History,
    /// The revision that is left, or the newest if no rollout is under way.
    current: Arc<ControllerRevision>,
}

fn words(deed: Deed, pod: &str, set: &str) -> String {
    let verb = if deed == Deed::Created { "create" } else { "delete" };
    format!("{verb} Pod {pod} in StatefulSet {set} successful")
}

fn revision_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(REVISION).map(String::as_str)
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

fn wanted(set: &StatefulSet) -> Wanted {
    let spec = &set.spec;
    let replicas = spec.replicas.unwrap_or(1).max(0);
    let strategy = spec.update_strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let on_delete = strategy.and_then(|one| one.type_.as_deref()) == Some("OnDelete");
    let update = if on_delete {
        Update::OnDelete
    } else {
        Update::Rolling {
            partition: rolling.and_then(|rolling| rolling.partition).unwrap_or(0),
            max_unavailable: rolling
                .and_then(|rolling| rolling.max_unavailable.as_ref())
                .map(|amount| resolve(amount, replicas, false).max(1)),
        }
    };
    Wanted {
        start: spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0),
        replicas,
        ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
        update,
    }
}

impl View<'_> {
    fn name(&self, revision: &ControllerRevision) -> String {
        revision.metadata.name.clone().unwrap_or_default()
    }

    fn members(&self) -> (Vec<Member>, Requeue) {
        let set = self.set.key().name;
        let newest = self.name(&self.history.newest);
        let (min_ready, now) = (self.set.spec.min_ready_seconds.unwrap_or(0), clock::now());
        let mut again = Requeue::Done;
        let members = self.pods.iter().filter_map(|pod| {
            let state = Availability::of(pod, min_ready, now);
            again = again.sooner(status::recheck(state));
            Some(Member {
                ordinal: ordinal_of(&set, &pod.key().name)?,
                ended: is_ended(pod),
                terminating: pod.is_terminating(),
                ready: is_running(pod) && state.is_ready(),
                available: is_running(pod) && state.is_available(),
                updated: revision_of(pod) == Some(&newest),
            })
        });
        (members.collect(), again)
    }

    fn status(&self, members: &[Member]) -> StatefulSetStatus {
        let (newest, current) = (self.name(&self.history.newest), self.name(&self.current));
        let count = |holds: &dyn Fn(&Member) -> bool| {
            Some(members.iter().filter(|one| holds(one)).count() as i32)
        };
        let of = |revision: &str| {
            let held = self
                .pods
                .iter()
                .filter(|pod| !pod.is_terminating() && revision_of(pod) == Some(revision));
            Some(held.count() as i32)
        };
        let held = self.set.status.clone().unwrap_or_default();
        let mut status = StatefulSetStatus {
            replicas: self.pods.len() as i32,
            ready_replicas: count(&|one| one.ready),
            available_replicas: count(&|one| one.available),
            current_replicas: of(&current),
            updated_replicas: of(&newest),
            current_revision: Some(current),
            update_revision: Some(newest.clone()),
            observed_generation: self.set.metadata.generation,
            collision_count: self.history.collisions,
            ..held
        };
        let wanted = wanted(self.set);
        let all = Some(wanted.replicas);
        let complete = status.updated_replicas == all
            && status.ready_replicas == all
            && status.replicas == wanted.replicas;
        if wanted.update != Update::OnDelete && complete {
            status.current_revision = Some(newest);
            status.current_replicas = status.updated_replicas;
        }
        status
    }

    fn template(&self, template: Template) -> (PodTemplateSpec, String) {
        let revision = match template {
            Template::Current => &self.current,
            Template::Newest => &self.history.newest,
        };
        let held = revisions::template_of(revision);
        (held.unwrap_or_else(|| self.set.spec.template.clone()), self.name(revision))
    }

    /// The pod of an ordinal; its host name is its name, its domain the set's service.
    fn compose(&self, ordinal: i32, template: Template) -> Pod {
        let (template, revision) = self.template(template);
        let name = format!("{}-{ordinal}", self.set.key().name);
        let mut pod = pod_control::of_template(self.set, &template, name.clone());
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(REVISION.to_owned(), revision);
        labels.insert(POD_NAME.to_owned(), name.clone());
        labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
        set_claims::mount(self.set, ordinal, &mut pod);
        if let Some(spec) = &mut pod.spec {
            spec.hostname = Some(name);
            spec.subdomain = self.set.spec.service_name.clone().filter(|name| !name.is_empty());
        }
        pod
    }

    fn pod(&self, ordinal: i32) -> Option<&Arc<Pod>> {
        let name = format!("{}-{ordinal}", self.set.key().name);
        self.pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(&name))
    }
}

impl StatefulSets {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        let label = "controller.kubernetes.io/hash";
        Self {
            informers: informers.clone(),
            claims: SetClaims::new(api, &informers.claims, events.clone()),
            control: PodControl::new(api, informers, events).with_words(words),
            history: Revisions::new(api, &informers.revisions, label),
        }
    }

    async fn view<'a>(
        &self,
        set: &'a StatefulSet,
        live: bool,
    ) -> Result<View<'a>, ControllerError> {
        let (spec, name) = (&set.spec, set.key().name);
        let ours = |pod: &Pod| ordinal_of(&name, &pod.key().name).is_some();
        let pods = self.control.claim(set, &spec.selector, live, ours).await?;
        let held = set.status.as_ref();
        let collisions = held.and_then(|status| status.collision_count);
        let history = self.history.sync(set, &spec.selector, &spec.template, collisions).await?;
        let current = held.and_then(|status| status.current_revision.as_deref());
        let current = current.and_then(|name| history.find(name)).unwrap_or(&history.newest);
        let current = Arc::clone(current);
        Ok(View { set, pods, history, current })
    }

    async fn take(&self, view: &View<'_>, step: Step) -> Result<(), ApiError> {
        match step {
            Step::Create { ordinal, template } => {
                self.claims.make(view.set, ordinal).await?;
                self.control.create(view.set, &view.compose(ordinal, template)).await
            }
            Step::Delete { ordinal, reason } => {
                let Some(pod) = view.pod(ordinal) else { return Ok(()) };
                // Before it goes: nobody can be made an owner afterwards.
                let condemned = reason == Reason::ScaleDown;
                self.claims.own(view.set, pod, ordinal, condemned).await?;
                if reason == Reason::Ended {
                    let (set, pod) = (view.set.key(), pod.key());
                    let text =
                        format!("StatefulSet {set} is recreating terminated Pod {}", pod.name);
                    let events = &self.control.events;
                    events.record(view.set, Severity::Normal, "RecreatingTerminatedPod", text);
                }
                self.control.delete(view.set, pod).await
            }
        }
    }

    /// A claim concerns the set whose name it carries.
    fn claims_input(&self) -> Input<ObjectKey> {
        let sets = self.informers.stateful_sets.clone();
        Input::new(&self.informers.claims, move |key, _: &PersistentVolumeClaim| {
            let near = sets.list_namespace(&key.namespace);
            let named = |set: &StatefulSet| key.name.contains(&format!("-{}-", set.key().name));
            near.iter().filter(|set| named(set)).map(|set| set.key()).collect()
        })
    }

    /// The policy may have changed since the claims were made.
    async fn own_claims(&self, view: &View<'_>) -> Result<(), ApiError> {
        let wanted = wanted(view.set);
        let range = wanted.start..wanted.start.saturating_add(wanted.replicas);
        let (set, name) = (view.set, view.set.key().name);
        for pod in &view.pods {
            if let Some(ordinal) = ordinal_of(&name, &pod.key().name) {
                self.claims.own(set, pod, ordinal, !range.contains(&ordinal)).await?;
            }
        }
        Ok(())
    }

    /// A pod that was adopted, or whose labels somebody changed, gets its name back.
    async fn name_pods(&self, view: &View<'_>) -> Result<(), ControllerError> {
        for pod in view.pods.iter().filter(|pod| !pod.is_terminating()) {
            let name = pod.key().name;
            let held = pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_NAME));
            if held != Some(&name) {
                let patch = json!({"metadata": {"labels": {POD_NAME: name}}});
                let patched = self.control.pods.patch_merge(&pod.key(), None, &patch).await;
                patched.act("label pod", &pod.key())?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Controller for StatefulSets {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "statefulset"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let sets = &self.informers.stateful_sets;
        vec![
            Input::new(sets, |key, _| vec![key.clone()]),
            pod_control::pods_of(&self.informers.pods, sets, |set| Some(&set.spec.selector)),
            self.claims_input(),
            Input::new(&self.informers.revisions, |_, one: &ControllerRevision| {
                ownership::controller_key(&one.metadata, "StatefulSet").into_iter().collect()
            }),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(set) = self.informers.stateful_sets.get_key(key) else {
            self.control.forget(key);
            return Ok(Requeue::Done);
        };
        let live = match self.control.belief(key) {
            Belief::Current => false,
            Belief::Behind(left) => return Ok(Requeue::After(left)),
            Belief::Overdue => true,
        };
        let view = self.view(&set, live).await?;
        let (members, again) = view.members();
        let mut outcome = Ok(());
        if !set.is_terminating() {
            self.name_pods(&view).await?;
            self.own_claims(&view).await.act("give owners to the claims of", key)?;
            let steps = plan(&wanted(&set), &members);
            for step in steps.into_iter().take(limits::REPLICASET_BURST) {
                outcome = self.take(&view, step).await;
                if outcome.is_err() {
                    break;
                }
            }
        }
        let changed = StatefulSet { status: Some(view.status(&members)), ..(*set).clone() };
        let wrote = status::write(&self.control.owners, &set, &changed).await?;
        outcome.act("bring the pods in order for", key)?;
        if !wrote && !set.is_terminating() {
            let limit = set.spec.revision_history_limit;
            let lives = |one: &ControllerRevision| {
                one.metadata.name == view.current.metadata.name
                    || view.pods.iter().any(|pod| revision_of(pod) == one.metadata.name.as_deref())
            };
            self.history.forget_old(&view.history, limit, lives).await?;
        }
        Ok(again)
    }
}
