//! Carries a Job to its end, counting every pod once.
//!
//! ```text
//! look ─► count and judge (logic/job) ─► write the status ─► take finalizers away
//!                                             │ refused: somebody wrote since; look again
//!                                             └─► make and remove pods
//! ```
//! Why the status is written first: it names the pods whose finalizers go next, and its
//! resourceVersion proves, before any pod is made, that the look was at the newest job.
//! Invariants: nothing is kept in memory that the next leader would miss; a pod without
//! its job, or released by it, loses its finalizer.
//! Not here: what to decide (logic/job).

mod conditions;
mod pods;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::Resource;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use serde_json::{Value, json};

use super::expectations::Belief;
use super::informers::Informers;
use super::ownership;
use super::pod_control::PodControl;
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::client::api::{ApiError, DeleteOptions, SharedApi};
use crate::client::events::{EventRecorder, Severity};
use crate::client::key::ObjectKey;
use crate::client::typed::Kind;
use crate::logic::job::TRACKING;
use crate::logic::job::demand::{Demand, demand};
use crate::logic::job::pod::{End, JobPod};
use crate::logic::job::tracking::{Count, Rules, Tally, count};
use crate::logic::job::verdict::{Outcome, deadline_left, is_finished, judge};
use crate::sys::clock;

/// The manager that a job means when it names none.
const OWN_MANAGER: &str = "kubernetes.io/job-controller";

/// What is worked on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Work {
    Job(ObjectKey),
    /// A pod with the finalizer and without a job.
    Stray(ObjectKey),
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Work::Job(key) => write!(f, "job {key}"),
            Work::Stray(key) => write!(f, "pod {key}"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Jobs {
    informers: Informers,
    control: PodControl<Job>,
}

/// A job with what is derived from it once.
struct View {
    job: Arc<Job>,
    spec: JobSpec,
    pods: Vec<Arc<Pod>>,
    facts: Vec<JobPod>,
    count: Count,
    outcome: Option<Outcome>,
    rules: Rules,
}

fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|held| held == TRACKING)
}

impl View {
    fn new(job: Arc<Job>, pods: Vec<Arc<Pod>>) -> Self {
        let spec = job.spec.clone().unwrap_or_default();
        let status = job.status.clone().unwrap_or_default();
        let facts: Vec<JobPod> = pods.iter().map(|pod| JobPod::read(pod, &spec)).collect();
        let mut rules = Rules::of(&spec, job.is_terminating() || is_finished(&status));
        let held = Tally::of(&status, &rules);
        let mut counted = count(&held, &facts, &rules);
        let outcome = judge(&spec, &status, &counted.next, &facts, clock::now());
        if outcome.is_some() && !rules.closing {
            rules.closing = true;
            counted = count(&held, &facts, &rules);
        }
        Self { job, spec, pods, facts, count: counted, outcome, rules }
    }

    fn active(&self) -> impl Iterator<Item = &Arc<Pod>> {
        let pods = self.pods.iter().zip(&self.facts);
        pods.filter(|(_, fact)| fact.is_active()).map(|(pod, _)| pod)
    }

    fn demand(&self) -> Demand {
        if self.outcome.is_some() || self.job.is_terminating() {
            return Demand::default();
        }
        demand(&self.spec, &self.count, &self.facts, clock::now())
    }

    /// Everything is counted and nothing runs: the last condition may be set.
    fn is_over(&self) -> bool {
        let runs = |pod: &JobPod| pod.end == End::Open && !pod.gone;
        self.count.next.is_settled() && !self.facts.iter().any(|pod| pod.tracked || runs(pod))
    }

    fn status(&self, now: &Time) -> JobStatus {
        let held = self.job.status.clone().unwrap_or_default();
        let mut status = held.clone();
        self.count.next.write(&mut status, &self.rules);
        let number =
            |fits: fn(&JobPod) -> bool| self.facts.iter().filter(|pod| fits(pod)).count() as i32;
        let active = number(JobPod::is_active);
        status.active = (active > 0).then_some(active);
        status.ready = Some(number(|pod| pod.is_active() && pod.ready));
        status.terminating =
            Some(number(|pod| pod.terminating && pod.end == End::Open && !pod.gone));
        let suspended = self.spec.suspend == Some(true);
        if status.start_time.is_none() && !suspended {
            status.start_time = Some(now.clone());
        }
        match &self.outcome {
            Some(outcome) => conditions::finish(&mut status, outcome, self.is_over(), now),
            None => conditions::suspend(&mut status, suspended, now),
        }
        status
    }
}

impl Jobs {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        Self { informers: informers.clone(), control: PodControl::new(api, informers, events) }
    }

    async fn view(&self, job: Arc<Job>, live: bool) -> Result<View, ControllerError> {
        let none = LabelSelector::default();
        let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref()).unwrap_or(&none);
        // Orphans are not adopted: nobody has counted them from their beginning.
        let owned = |pod: &Pod| ownership::controller_of(&pod.metadata).is_some();
        let pods = self.control.claim(&job, selector, live, owned).await?;
        Ok(View::new(job, pods))
    }

    /// Writes the status. With `prove` the API is asked even if nothing changed: it
    /// refuses if the job that was looked at is not the newest.
    async fn write_status(&self, view: &View, prove: bool) -> Result<(), ControllerError> {
        let now = Time(clock::now());
        let status = view.status(&now);
        let held = view.job.status.clone().unwrap_or_default();
        if status == held && !prove {
            return Ok(());
        }
        let changed = Job { status: Some(status.clone()), ..(*view.job).clone() };
        let written = self.control.owners.update_status(&changed).await;
        written.act("write the status of", &view.job.key())?;
        for (severity, reason, message) in conditions::news(&held, &status) {
            self.control.events.record(&*view.job, severity, &reason, message);
        }
        Ok(())
    }

    async fn release(&self, pods: impl Iterator<Item = &Arc<Pod>>) -> Result<(), ApiError> {
        for pod in pods.filter(|pod| is_tracked(pod)) {
            let kept: Vec<&String> =
                pod.metadata.finalizers.iter().flatten().filter(|held| *held != TRACKING).collect();
            let patch = json!({"metadata": {
                "uid": pod.uid(),
                "resourceVersion": pod.metadata.resource_version,
                "finalizers": if kept.is_empty() { Value::Null } else { json!(kept) },
            }});
            match self.control.pods.patch_merge(&pod.key(), None, &patch).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes pods away without counting them: the finalizer goes first.
    async fn remove(&self, view: &View, numbers: &[usize]) -> Result<(), ApiError> {
        let pods: Vec<Arc<Pod>> = numbers.iter().map(|at| Arc::clone(&view.pods[*at])).collect();
        self.release(pods.iter()).await?;
        self.control.delete_all(&view.job, &pods).await
    }

    async fn reconcile_job(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(job) = self.informers.jobs.get_key(key) else {
            self.control.forget(key);
            return self.free_pods_of(key).await;
        };
        let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
        if manager.is_some_and(|manager| manager != OWN_MANAGER) {
            return Ok(Requeue::Done);
        }
        let live = match self.control.belief(key) {
            Belief::Current => false,
            Belief::Behind(left) => return Ok(Requeue::After(left)),
            Belief::Overdue => true,
        };
        let view = self.view(job, live).await?;
        let wanted = view.demand();
        let acts = !wanted.create.is_empty() || !wanted.remove.is_empty();
        self.write_status(&view, acts).await?;
        let released = view.count.released.iter().map(|at| &view.pods[*at]);
        self.release(released).await.act("take the finalizers from the pods of", key)?;
        if view.outcome.is_some() || view.job.is_terminating() {
            if view.outcome.is_some() {
                let left: Vec<Arc<Pod>> = view.active().cloned().collect();
                self.control.delete_all(&view.job, &left).await.act("end the pods of", key)?;
            }
            return self.expire(&view).await;
        }
        self.remove(&view, &wanted.remove).await.act("remove pods of", key)?;
        let new = wanted.create.iter().map(|new| pods::compose(&view.job, &view.spec, new));
        let new = new.collect();
        self.control.create_all(&view.job, new).await.act("create pods of", key)?;
        let wait = wanted.wait.map_or(Requeue::Done, Requeue::After);
        let status = view.job.status.clone().unwrap_or_default();
        let deadline = deadline_left(&view.spec, &status, clock::now());
        let deadline = deadline.map_or(Requeue::Done, |left| {
            Requeue::After(Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1)))
        });
        Ok(wait.sooner(deadline))
    }

    /// Deletes a finished job whose time to live is over.
    async fn expire(&self, view: &View) -> Result<Requeue, ControllerError> {
        let status = view.job.status.clone().unwrap_or_default();
        let Some(ttl) = view.spec.ttl_seconds_after_finished else { return Ok(Requeue::Done) };
        let Some(end) = conditions::finished_at(&status) else { return Ok(Requeue::Done) };
        if view.job.is_terminating() {
            return Ok(Requeue::Done);
        }
        let left = i64::from(ttl) - (clock::now().as_second() - end.as_second());
        if left > 0 {
            return Ok(Requeue::After(Duration::from_secs(left.unsigned_abs())));
        }
        let options = DeleteOptions {
            propagation_policy: Some("Foreground".to_owned()),
            uid: view.job.metadata.uid.clone(),
            resource_version: view.job.metadata.resource_version.clone(),
            ..DeleteOptions::default()
        };
        match self.control.owners.delete(&view.job.key(), &options).await {
            Err(error) if !error.is_not_found() => {
                Err(error).act("delete expired job", &view.job.key())
            }
            _ => Ok(Requeue::Done),
        }
    }

    /// A job that is gone leaves its pods' finalizers behind.
    async fn free_pods_of(&self, job: &ObjectKey) -> Result<Requeue, ControllerError> {
        for pod in self.informers.pods.list_namespace(&job.namespace) {
            if ownership::controller_key(&pod.metadata, Job::KIND).as_ref() == Some(job) {
                self.reconcile_stray(&pod.key()).await?;
            }
        }
        Ok(Requeue::Done)
    }

    /// Frees a pod whose job is gone, or never was its.
    async fn reconcile_stray(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(pod) = self.informers.pods.get_key(key) else { return Ok(Requeue::Done) };
        if !is_tracked(&pod) {
            return Ok(Requeue::Done);
        }
        if let Some(owner) = ownership::controller_of(&pod.metadata)
            && owner.kind == Job::KIND
        {
            let job = ObjectKey::new(key.namespace.clone(), owner.name.clone());
            let found = self.control.owners.find(&job).await.act("look up job", &job)?;
            if found.is_some_and(|job| job.uid() == owner.uid) {
                return Ok(Requeue::Done);
            }
        }
        self.release(std::iter::once(&pod)).await.act("free pod", key)?;
        Ok(Requeue::Done)
    }
}

#[async_trait]
impl Controller for Jobs {
    type Key = Work;

    fn name(&self) -> &'static str {
        "job"
    }

    fn inputs(&self) -> Vec<Input<Work>> {
        let jobs = self.informers.jobs.clone();
        vec![
            Input::new(&self.informers.jobs, |key, _| vec![Work::Job(key.clone())]),
            Input::new(&self.informers.pods, move |key, pod: &Pod| {
                let owner = ownership::controller_key(&pod.metadata, Job::KIND);
                let known = owner.as_ref().and_then(|owner| jobs.get_key(owner));
                let own = known.is_some_and(|job| {
                    ownership::controller_of(&pod.metadata)
                        .is_some_and(|owner| owner.uid == job.uid())
                });
                let stray = (is_tracked(pod) && !own).then(|| Work::Stray(key.clone()));
                owner.map(Work::Job).into_iter().chain(stray).collect()
            }),
        ]
    }

    async fn reconcile(&self, work: &Work) -> Result<Requeue, ControllerError> {
        match work {
            Work::Job(key) => self.reconcile_job(key).await,
            Work::Stray(key) => self.reconcile_stray(key).await,
        }
    }
}

/// How serious news about a job are.
pub(super) type News = (Severity, String, String);
