//! Between the port's types and Docker's JSON.
//!
//! Invariants: Docker's own restart policy is always off, no container gets a network of
//! Docker's making, and every log is bounded in size.

use std::collections::HashMap;

use bollard::errors::Error as DockerError;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum,
    ContainerSummary as DockerSummary, ContainerSummaryStateEnum, HostConfig, HostConfigLogConfig,
    Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType, RestartPolicy,
    RestartPolicyNameEnum,
};
use jiff::Timestamp;

use super::EngineError;
use super::port::{Bind, Container, ContainerSpec, ContainerSummary, Namespace, RunState};
use crate::base::limits::{CONTAINER_LOG_FILES, CONTAINER_LOG_MAX_SIZE};

/// Sorts bollard's errors into the port's: an answer that says no, or silence.
pub(super) fn failure(action: &'static str, target: &str, error: DockerError) -> EngineError {
    let target = target.to_owned();
    match error {
        DockerError::DockerResponseServerError { status_code: 404, message }
            if action == "start" =>
        {
            // Starting answers 404 also when the program to run does not exist.
            if message.contains("No such container") {
                EngineError::NotFound { action, target }
            } else {
                EngineError::Refused { action, target, status: 404, message }
            }
        }
        DockerError::DockerResponseServerError { status_code: 404, message }
            if action == "create" =>
        {
            EngineError::Refused { action, target, status: 404, message }
        }
        DockerError::DockerResponseServerError { status_code: 404, .. } => {
            EngineError::NotFound { action, target }
        }
        DockerError::DockerResponseServerError { status_code, message } => {
            EngineError::Refused { action, target, status: status_code, message }
        }
        DockerError::DockerStreamError { error } => {
            EngineError::Refused { action, target, status: 200, message: error }
        }
        other => EngineError::Silent { action, target, reason: other.to_string() },
    }
}

fn mode(namespace: &Namespace, own: &str) -> String {
    match namespace {
        Namespace::Own => own.to_owned(),
        Namespace::Host => "host".to_owned(),
        Namespace::Container(id) => format!("container:{id}"),
    }
}

fn mount(bind: &Bind) -> Mount {
    let propagation = if bind.follows_host {
        MountBindOptionsPropagationEnum::RSLAVE
    } else {
        MountBindOptionsPropagationEnum::RPRIVATE
    };
    Mount {
        target: Some(bind.target.clone()),
        source: Some(bind.source.display().to_string()),
        typ: Some(MountType::BIND),
        read_only: Some(bind.read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(propagation),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

fn some_if<T>(list: &[T]) -> Option<Vec<T>>
where
    T: Clone,
{
    if list.is_empty() { None } else { Some(list.to_vec()) }
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let resources = &spec.resources;
    let log = HashMap::from([
        ("max-size".to_owned(), CONTAINER_LOG_MAX_SIZE.to_owned()),
        ("max-file".to_owned(), CONTAINER_LOG_FILES.to_string()),
    ]);
    let mut security = Vec::new();
    if spec.no_new_privileges {
        security.push("no-new-privileges".to_owned());
    }
    if spec.seccomp_unconfined {
        security.push("seccomp=unconfined".to_owned());
    }
    HostConfig {
        nano_cpus: resources.cpu_limit_milli.map(|milli| milli * 1_000_000),
        cpu_shares: resources.cpu_shares,
        memory: resources.memory_limit_bytes,
        memory_swap: resources.memory_limit_bytes,
        oom_score_adj: resources.oom_score_adj,
        cgroup_parent: spec.cgroup_parent.clone(),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(log),
        }),
        network_mode: Some(mode(&spec.network, "none")),
        // "shareable" lets the pod's members join the pause container's IPC namespace.
        ipc_mode: Some(mode(&spec.ipc, "shareable")),
        pid_mode: match &spec.pid {
            Namespace::Own => None,
            other => Some(mode(other, "")),
        },
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        mounts: Some(spec.binds.iter().map(mount).collect()),
        cap_add: some_if(&spec.capabilities_add),
        cap_drop: some_if(&spec.capabilities_drop),
        group_add: some_if(&spec.extra_groups),
        privileged: Some(spec.privileged),
        readonly_rootfs: Some(spec.read_only_root),
        security_opt: some_if(&security),
        sysctls: if spec.sysctls.is_empty() {
            None
        } else {
            Some(spec.sysctls.clone().into_iter().collect())
        },
        ..HostConfig::default()
    }
}

/// The body of a create request.
pub(super) fn container_body(spec: &ContainerSpec) -> ContainerCreateBody {
    ContainerCreateBody {
        hostname: spec.hostname.clone(),
        user: spec.user.clone(),
        env: some_if(&spec.env),
        cmd: spec.arguments.clone(),
        entrypoint: spec.entrypoint.clone(),
        image: Some(spec.image.clone()),
        working_dir: spec.working_dir.clone(),
        labels: Some(spec.labels.clone().into_iter().collect()),
        tty: Some(spec.tty),
        open_stdin: Some(spec.stdin),
        stdin_once: Some(spec.stdin_once),
        host_config: Some(host_config(spec)),
        ..ContainerCreateBody::default()
    }
}

/// A line of the list; what Docker leaves out becomes empty.
pub(super) fn summary_of(from: DockerSummary) -> ContainerSummary {
    let name = from.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    ContainerSummary {
        id: from.id.unwrap_or_default(),
        name: name.trim_start_matches('/').to_owned(),
        labels: from.labels.unwrap_or_default().into_iter().collect(),
        state: match from.state {
            Some(ContainerSummaryStateEnum::CREATED) => RunState::Created,
            Some(
                ContainerSummaryStateEnum::RUNNING
                | ContainerSummaryStateEnum::PAUSED
                | ContainerSummaryStateEnum::RESTARTING
                | ContainerSummaryStateEnum::STOPPING,
            ) => RunState::Running,
            Some(ContainerSummaryStateEnum::REMOVING) => RunState::Removing,
            Some(
                ContainerSummaryStateEnum::EXITED
                | ContainerSummaryStateEnum::DEAD
                | ContainerSummaryStateEnum::EMPTY,
            )
            | None => RunState::Exited,
        },
    }
}

/// Docker writes year 1 for "never".
fn moment(text: Option<&str>) -> Option<Timestamp> {
    let parsed: Timestamp = text?.parse().ok()?;
    if parsed.as_second() > 0 { Some(parsed) } else { None }
}

/// The inspect answer in the port's terms.
pub(super) fn container_of(from: ContainerInspectResponse) -> Container {
    let state = from.state.unwrap_or_default();
    let config = from.config.unwrap_or_default();
    let run_state = match state.status {
        Some(ContainerStateStatusEnum::CREATED) => RunState::Created,
        Some(
            ContainerStateStatusEnum::RUNNING
            | ContainerStateStatusEnum::PAUSED
            | ContainerStateStatusEnum::RESTARTING
            | ContainerStateStatusEnum::STOPPING,
        ) => RunState::Running,
        Some(ContainerStateStatusEnum::REMOVING) => RunState::Removing,
        Some(
            ContainerStateStatusEnum::EXITED
            | ContainerStateStatusEnum::DEAD
            | ContainerStateStatusEnum::EMPTY,
        )
        | None => RunState::Exited,
    };
    Container {
        id: from.id.unwrap_or_default(),
        name: from.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        image_id: from.image.unwrap_or_default(),
        state: run_state,
        pid: state.pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default(),
        exit_code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or_default(),
        oom_killed: state.oom_killed.unwrap_or_default(),
        tty: config.tty.unwrap_or_default(),
        stdin: config.open_stdin.unwrap_or_default(),
        stdin_once: config.stdin_once.unwrap_or_default(),
        start_error: state.error.unwrap_or_default(),
        created_at: moment(from.created.as_deref()),
        started_at: moment(state.started_at.as_deref()),
        finished_at: moment(state.finished_at.as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_never_restarts_a_container_by_itself() {
        let body = container_body(&ContainerSpec::default());
        let host = body.host_config.unwrap();
        assert_eq!(host.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::NO));
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.log_config.unwrap().typ.as_deref(), Some("json-file"));
    }

    #[test]
    fn the_year_one_means_never() {
        assert_eq!(moment(Some("0001-01-01T00:00:00Z")), None);
        assert!(moment(Some("2026-11-21T10:00:00.123456789Z")).is_some());
    }

    #[test]
    fn a_timeout_is_silence() {
        let error = failure("inspect", "x", DockerError::RequestTimeoutError);
        assert!(error.is_unknown());
    }
}
