//! Starts a CronJob's jobs when they come due, and clears old ones away.
//!
//! Why a due time is never met twice: a job's name is made from its due time, so the API
//! refuses the second, whoever is leader and whatever the status says.
//! Not here: when a schedule comes due (model/cron.rs).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::Resource;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::informers::{BY_CONTROLLER, Informers};
use super::ownership;
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use super::status;
use crate::base::limits;
use crate::client::api::{DeleteOptions, SharedApi};
use crate::client::events::{EventRecorder, Severity, reference};
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::logic::job::verdict::is_finished;
use crate::model::cron::Schedule;
use crate::model::time_zone;
use crate::sys::clock;

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

#[derive(Debug)]
pub(super) struct CronJobs {
    informers: Informers,
    crons: Typed<CronJob>,
    jobs: Typed<Job>,
    events: EventRecorder,
}

fn ended(job: &Job) -> bool {
    job.status.as_ref().is_some_and(is_finished)
}

fn has_condition(job: &Job, kind: &str) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one.type_ == kind && one.status == "True")
}

/// The earliest moment after which a due time still counts.
fn earliest(cron: &CronJob, now: Timestamp) -> Timestamp {
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let last = last.or(cron.metadata.creation_timestamp.as_ref()).map_or(now, |time| time.0);
    match cron
        .spec
        .starting_deadline_seconds
        .and_then(|seconds| Timestamp::from_second(now.as_second() - seconds).ok())
    {
        Some(bound) => last.max(bound),
        None => last,
    }
}

impl CronJobs {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        let (crons, jobs) = (Typed::new(api.clone()), Typed::new(api.clone()));
        Self { informers: informers.clone(), crons, jobs, events }
    }

    fn warn(&self, cron: &CronJob, reason: &str, message: String) {
        self.events.record(cron, Severity::Warning, reason, message);
    }

    /// The status after a look at the jobs.
    fn follow(&self, cron: &CronJob, jobs: &[Arc<Job>]) -> CronJobStatus {
        let mut status = cron.status.clone().unwrap_or_default();
        let mut active = status.active.take().unwrap_or_default();
        active.retain(|held| {
            let job = jobs.iter().find(|job| held.uid.as_deref() == Some(job.uid()));
            let name = held.name.as_deref().unwrap_or_default();
            let Some(job) = job else {
                let text = format!("Active job went missing: {name}");
                self.events.record(cron, Severity::Normal, "MissingJob", text);
                return false;
            };
            if ended(job) {
                let kind = if has_condition(job, "Complete") { "Complete" } else { "Failed" };
                let text = format!("Saw completed job: {name}, condition: {kind}");
                self.events.record(cron, Severity::Normal, "SawCompletedJob", text);
            }
            !ended(job)
        });
        for job in jobs.iter().filter(|job| !ended(job) && !job.is_terminating()) {
            if !active.iter().any(|held| held.uid.as_deref() == Some(job.uid())) {
                active.push(reference(&**job));
            }
        }
        for held in &mut active {
            held.resource_version = None;
        }
        active.sort_by(|one, other| one.name.cmp(&other.name));
        status.active = (!active.is_empty()).then_some(active);
        let done = jobs.iter().filter(|job| has_condition(job, "Complete"));
        let done = done.filter_map(|job| job.status.as_ref()?.completion_time.clone());
        let newest = done.chain(status.last_successful_time.take()).max_by_key(|time| time.0);
        status.last_successful_time = newest;
        status
    }

    /// Starts what is due; answers when to look again.
    async fn start_due(
        &self,
        cron: &CronJob,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
    ) -> Result<Requeue, ControllerError> {
        let spec = &cron.spec;
        if cron.is_terminating() || spec.suspend == Some(true) {
            return Ok(Requeue::Done);
        }
        let schedule = match Schedule::parse(&spec.schedule) {
            Ok(schedule) => schedule,
            Err(error) => {
                let text = format!("unparseable schedule: {:?} : {error}", spec.schedule);
                self.warn(cron, "UnparseableSchedule", text);
                return Ok(Requeue::Done);
            }
        };
        let zone = match spec.time_zone.as_deref() {
            None => Some(TimeZone::UTC),
            Some(name) => time_zone::find(name),
        };
        let Some(zone) = zone else {
            let text = format!("invalid timeZone: {:?}", spec.time_zone);
            self.warn(cron, "UnknownTimeZone", text);
            return Ok(Requeue::Done);
        };
        let now = clock::now();
        let from = earliest(cron, now);
        let next = schedule.next(now, &zone).map_or(Requeue::Done, |at| {
            let left = Duration::try_from(at.duration_since(clock::now()));
            Requeue::After(left.unwrap_or(Duration::ZERO) + Duration::from_millis(50))
        });
        let Some(due) = schedule.latest(from, now, &zone) else { return Ok(next) };
        let most = limits::CRON_MISSED_MAX;
        if schedule.count(from, now, &zone, most + 1) > most {
            let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.warn(cron, "TooManyMissedTimes", text.to_owned());
        }
        if status.last_schedule_time.as_ref().is_some_and(|last| last.0 >= due) {
            return Ok(next);
        }
        if let Some(active) = status.active.as_ref().filter(|active| !active.is_empty()) {
            match spec.concurrency_policy.as_deref() {
                Some("Forbid") => {
                    let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
                    self.events.record(cron, Severity::Normal, "JobAlreadyActive", text.into());
                    return Ok(next);
                }
                Some("Replace") => {
                    let running = jobs.iter().filter(|job| {
                        active.iter().any(|held| held.uid.as_deref() == Some(job.uid()))
                    });
                    for job in running {
                        self.delete(cron, job).await?;
                    }
                    status.active = None;
                }
                _ => {}
            }
        }
        let job = self.start(cron, due, &zone).await?;
        let mut held = reference(&job);
        held.resource_version = None;
        let active: &mut Vec<ObjectReference> = status.active.get_or_insert_default();
        if !active.iter().any(|one| one.uid == held.uid) {
            active.push(held);
        }
        status.last_schedule_time = Some(Time(due));
        Ok(next)
    }

    async fn start(
        &self,
        cron: &CronJob,
        due: Timestamp,
        zone: &TimeZone,
    ) -> Result<Job, ControllerError> {
        let template = cron.spec.job_template.clone();
        let owner = cron.key();
        let mut metadata = template.metadata.unwrap_or_default();
        metadata.name = Some(format!("{}-{}", owner.name, due.as_second() / 60));
        metadata.namespace = Some(owner.namespace.clone());
        metadata.owner_references = Some(vec![ownership::controller_reference(cron)]);
        let local = due.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        let local = local.strip_suffix("+00:00").map_or(local.clone(), |utc| format!("{utc}Z"));
        metadata.annotations.get_or_insert_default().insert(SCHEDULED_AT.to_owned(), local);
        let job = Job { metadata, spec: template.spec, status: None };
        let key = job.key();
        match self.jobs.create(&job).await {
            Ok(created) => {
                let text = format!("Created job {}", key.name);
                self.events.record(cron, Severity::Normal, "SuccessfulCreate", text);
                Ok(created)
            }
            Err(error) if error.is_conflict() => {
                let held = self.jobs.find(&key).await.act("look up job", &key)?;
                let ours = held.filter(|job| {
                    ownership::controller_of(&job.metadata)
                        .is_some_and(|owner| owner.uid == cron.uid())
                });
                match ours {
                    // It was started before, and what we knew was older.
                    Some(job) => Ok(job),
                    None => Err(error).act("create job", &key),
                }
            }
            Err(error) => {
                self.warn(cron, "FailedCreate", format!("Error creating job: {error}"));
                Err(error).act("create job", &key)
            }
        }
    }

    async fn delete(&self, cron: &CronJob, job: &Job) -> Result<(), ControllerError> {
        let options = DeleteOptions {
            propagation_policy: Some("Background".to_owned()),
            uid: job.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        match self.jobs.delete(&job.key(), &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                self.warn(cron, "FailedDelete", format!("Deleted job: {error}"));
                Err(error).act("delete job", &job.key())
            }
            _ => {
                let text = format!("Deleted job {}", job.key().name);
                self.events.record(cron, Severity::Normal, "SuccessfulDelete", text);
                Ok(())
            }
        }
    }

    /// Deletes the oldest finished jobs beyond the limits of the history.
    async fn clear(&self, cron: &CronJob, jobs: &[Arc<Job>]) -> Result<(), ControllerError> {
        let spec = &cron.spec;
        for (kind, limit) in [
            ("Complete", spec.successful_jobs_history_limit),
            ("Failed", spec.failed_jobs_history_limit),
        ] {
            let Some(limit) = limit else { continue };
            let mut over: Vec<&Arc<Job>> = jobs
                .iter()
                .filter(|job| has_condition(job, kind) && !job.is_terminating())
                .collect();
            over.sort_by_cached_key(|job| {
                let start = job.status.as_ref().and_then(|status| status.start_time.as_ref());
                (start.map(|time| time.0), job.metadata.name.clone())
            });
            let surplus = over.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for job in &over[..surplus] {
                self.delete(cron, job).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Controller for CronJobs {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "cronjob"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        vec![
            Input::new(&self.informers.cron_jobs, |key, _| vec![key.clone()]),
            Input::new(&self.informers.jobs, |_, job: &Job| {
                ownership::controller_key(&job.metadata, CronJob::KIND).into_iter().collect()
            }),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(cron) = self.informers.cron_jobs.get_key(key) else { return Ok(Requeue::Done) };
        let jobs = self.informers.jobs.by_index(BY_CONTROLLER, cron.uid());
        let mut new = self.follow(&cron, &jobs);
        let started = self.start_due(&cron, &jobs, &mut new).await;
        let changed = CronJob { status: Some(new), ..(*cron).clone() };
        status::write(&self.crons, &cron, &changed).await?;
        self.clear(&cron, &jobs).await?;
        started
    }
}
