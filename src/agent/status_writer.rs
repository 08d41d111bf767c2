//! Writes a pod's status to the API when it has changed, and only then.
//!
//! Invariants: never onto another pod of the same name (uid is compared); a lost race is
//! decided anew on the fresh object, so others' conditions survive.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PodSpec, PodStatus};
use serde_json::Value;

use super::AgentError;
use super::context::LocalPod;
use super::pod_source::{DesiredPod, PODS};
use super::pod_worker::PodWorker;
use crate::base::limits::TERMINATION_MESSAGE_MAX_BYTES;
use crate::engine::port::{Container as EngineContainer, LogQuery, RunState};
use crate::logic::pod_phase::{StatusInput, pod_status};
use crate::logic::restart_facts::{PodFacts, Verdicts};
use crate::logic::restart_plan::Waiting;
use crate::sys::clock;
use crate::sys::pod_files;

const CONFLICT_TRIES: u32 = 5;
const LOG_TAIL_LINES: u64 = 80;
const LOG_TAIL_MAX_BYTES: usize = 2_048;
const LOG_TAIL_TIMEOUT: Duration = Duration::from_secs(5);

impl PodWorker {
    /// Builds the status and writes it if the API has another one.
    pub(super) async fn write_status(
        &mut self,
        desired: &DesiredPod,
        facts: &PodFacts,
        verdicts: &Verdicts,
        waiting: &BTreeMap<String, Waiting>,
        pod_ip: Option<&str>,
        ending: bool,
    ) -> Result<(), AgentError> {
        let host_ip = self.context.host_ip();
        let evicted = self.context.pressure.evicted(&self.identity.uid);
        let build = |desired: &DesiredPod| {
            let pod = &desired.pod;
            let now = clock::now();
            let host_ip = &host_ip;
            // A pod is over when nothing of it runs.
            let runs = facts.containers.iter().any(|container| container.is_running());
            let evicted = evicted.as_deref().filter(|_| !runs);
            pod_status(StatusInput {
                pod,
                facts,
                verdicts,
                waiting,
                host_ip,
                pod_ip,
                ending,
                evicted,
                now,
            })
        };
        let mut current = desired.clone();
        for _ in 0..CONFLICT_TRIES {
            let status = build(&current);
            self.note(&status, ending);
            if current.pod.status.as_ref() == Some(&status) {
                return Ok(());
            }
            let base = current.version().to_owned();
            if self.written.as_ref().is_some_and(|(version, old)| {
                // The watch has not brought our own write back yet.
                *version == base && same_but_times(old, &status)
            }) {
                return Ok(());
            }
            let object = with_status(&current.raw, &status)?;
            let (namespace, name) = (&self.identity.namespace, &self.identity.name);
            let api = &self.context.api;
            match api.update(&PODS, Some(namespace), name, Some("status"), &object).await {
                Ok(_) => {
                    self.written = Some((base, status));
                    return Ok(());
                }
                Err(error) if error.is_conflict() => {
                    let fresh = api.get(&PODS, Some(namespace), name).await?;
                    match DesiredPod::parse(fresh) {
                        Some(fresh) if fresh.identity == self.identity => current = fresh,
                        // Another pod: this one's status interests nobody any more.
                        _ => return Ok(()),
                    }
                }
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(AgentError::config("the pod's status lost every race"))
    }

    fn note(&self, status: &PodStatus, ending: bool) {
        let holds = |type_: &str| {
            let conditions = status.conditions.iter().flatten();
            conditions.into_iter().any(|one| one.type_ == type_ && one.status == "True")
        };
        let containers = status.container_statuses.iter().flatten();
        self.context.note_local(LocalPod {
            namespace: self.identity.namespace.clone(),
            name: self.identity.name.clone(),
            uid: self.identity.uid.clone(),
            phase: status.phase.clone().unwrap_or_default(),
            pod_ip: status.pod_ip.clone(),
            ready: holds("Ready"),
            restarts: containers.map(|one| u32::try_from(one.restart_count).unwrap_or(0)).sum(),
            ending,
        });
    }

    /// What an ended program left in its termination log, or the end of its output if
    /// the pod asks for that.
    pub(super) async fn last_words(
        &mut self,
        spec: Option<&PodSpec>,
        container: &EngineContainer,
    ) -> Option<String> {
        if container.state != RunState::Exited {
            return None;
        }
        if let Some(known) = self.messages.get(&container.id) {
            return known.clone();
        }
        let words = self.read_last_words(spec, container).await;
        self.messages.insert(container.id.clone(), words.clone());
        words
    }

    async fn read_last_words(
        &self,
        spec: Option<&PodSpec>,
        ended: &EngineContainer,
    ) -> Option<String> {
        use super::labels::{ATTEMPT, CONTAINER_NAME};
        let name = ended.labels.get(CONTAINER_NAME)?;
        let attempt = ended.labels.get(ATTEMPT)?.parse().ok()?;
        let path = self.dir.termination_log(name, attempt);
        let mut content =
            pod_files::read_end(&path, TERMINATION_MESSAGE_MAX_BYTES).unwrap_or_default();
        if content.is_empty() && ended.exit_code != 0 {
            let spec = spec?;
            let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
            let policy = all.find(|one| one.name == *name)?.termination_message_policy.as_deref();
            if policy != Some("FallbackToLogsOnError") {
                return None;
            }
            content = self.log_tail(&ended.id).await;
        }
        content.truncate(TERMINATION_MESSAGE_MAX_BYTES);
        (!content.is_empty()).then(|| String::from_utf8_lossy(&content).into_owned())
    }

    async fn log_tail(&self, id: &str) -> Vec<u8> {
        use futures::StreamExt;
        let query = LogQuery { tail_lines: Some(LOG_TAIL_LINES), ..LogQuery::default() };
        let read = async {
            let mut all = Vec::new();
            if let Ok(mut stream) = self.context.engine.logs(id, &query).await {
                while let Some(Ok(piece)) = stream.next().await {
                    all.extend_from_slice(&piece);
                }
            }
            all
        };
        let mut all = tokio::time::timeout(LOG_TAIL_TIMEOUT, read).await.unwrap_or_default();
        all.split_off(all.len().saturating_sub(LOG_TAIL_MAX_BYTES))
    }
}

/// Times of transitions are made anew from the object, so they do not count.
fn same_but_times(old: &PodStatus, new: &PodStatus) -> bool {
    let strip = |status: &PodStatus| {
        let mut status = status.clone();
        status.start_time = None;
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_transition_time = None;
        }
        status
    };
    strip(old) == strip(new)
}

fn with_status(raw: &Value, status: &PodStatus) -> Result<Value, AgentError> {
    let status = serde_json::to_value(status)
        .map_err(|error| AgentError::config(format!("cannot encode the status: {error}")))?;
    let mut object = raw.clone();
    object["status"] = status;
    Ok(object)
}
