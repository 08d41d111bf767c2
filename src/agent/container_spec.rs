//! From a pod's spec to what the engine is told to create.
//!
//! Invariants: the pause container owns the network and IPC namespaces; members join
//! them; every container carries the labels that a restarted agent reads.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext};

use super::AgentError;
use super::env::Environment;
use super::labels::{self, PodIdentity};
use super::volumes::{Places, PodDir, binds};
use crate::engine::port::{Bind, ContainerSpec, Namespace, Resources};
use crate::logic::amount::{milli_of, units_of};
use crate::logic::pod_phase::qos_class;

/// The kubelet's score for its pause containers.
const SANDBOX_OOM_SCORE: i64 = -998;
const SHARES_PER_CPU: i64 = 1_024;
const SHARES_MIN: i64 = 2;

/// What the spec of every container of a pod needs besides the pod.
#[derive(Clone, Debug)]
pub(crate) struct SpecContext<'a> {
    pub node: &'a str,
    pub identity: &'a PodIdentity,
    pub spec: &'a PodSpec,
    pub cgroup_parent: Option<&'a str>,
    /// Lower OOM scores are refused by this host.
    pub oom_score_min: i64,
}

/// How long a pod may take to end.
pub(crate) fn grace_seconds(spec: &PodSpec) -> i64 {
    spec.termination_grace_period_seconds.unwrap_or(30).max(0)
}

fn labels_for(
    context: &SpecContext<'_>,
    kind: &str,
    name: &str,
    attempt: u32,
) -> BTreeMap<String, String> {
    let mut all = context.identity.labels(context.node, grace_seconds(context.spec));
    all.insert(labels::DOCKER_TYPE.to_owned(), kind.to_owned());
    all.insert(labels::CONTAINER_NAME.to_owned(), name.to_owned());
    all.insert(labels::ATTEMPT.to_owned(), attempt.to_string());
    all
}

/// The pod's host name: its own, or the pod's name cut to 63 characters.
pub(crate) fn hostname(identity: &PodIdentity, spec: &PodSpec) -> String {
    let name = spec.hostname.clone().filter(|name| !name.is_empty());
    let mut name = name.unwrap_or_else(|| identity.name.clone());
    name.truncate(63);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// The pause container.
pub(crate) fn sandbox_spec(
    context: &SpecContext<'_>,
    image: String,
    attempt: u32,
) -> ContainerSpec {
    let spec = context.spec;
    let host_network = spec.host_network.unwrap_or(false);
    let sysctls = spec.security_context.iter().flat_map(|pod| pod.sysctls.iter().flatten());
    ContainerSpec {
        name: context.identity.container_name(labels::PAUSE, attempt),
        image,
        labels: labels_for(context, labels::SANDBOX, labels::PAUSE, attempt),
        hostname: (!host_network).then(|| hostname(context.identity, spec)),
        network: if host_network { Namespace::Host } else { Namespace::Own },
        ipc: if spec.host_ipc.unwrap_or(false) { Namespace::Host } else { Namespace::Own },
        pid: if spec.host_pid.unwrap_or(false) { Namespace::Host } else { Namespace::Own },
        resources: Resources {
            cpu_shares: Some(SHARES_MIN),
            oom_score_adj: Some(SANDBOX_OOM_SCORE.max(context.oom_score_min)),
            ..Resources::default()
        },
        cgroup_parent: context.cgroup_parent.map(str::to_owned),
        sysctls: sysctls.map(|one| (one.name.clone(), one.value.clone())).collect(),
        no_new_privileges: true,
        ..ContainerSpec::default()
    }
}

/// What distinguishes one attempt of a member.
#[derive(Clone, Debug)]
pub(crate) struct Attempt<'a> {
    pub container: &'a Container,
    pub attempt: u32,
    pub restart_step: u32,
    pub sandbox_id: &'a str,
    /// The container whose processes an ephemeral one wants to see.
    pub target_id: Option<&'a str>,
    /// By digest, as the engine holds it.
    pub image: &'a str,
    pub env: &'a Environment,
    /// Where the pod's volumes are.
    pub places: &'a Places,
    pub memory_capacity_bytes: i64,
}

/// A member of the pod.
pub(crate) fn member_spec(
    context: &SpecContext<'_>,
    dir: &PodDir,
    attempt: &Attempt<'_>,
) -> Result<ContainerSpec, AgentError> {
    let container = attempt.container;
    let spec = context.spec;
    let security = container.security_context.clone().unwrap_or_default();
    let mut labels = labels_for(context, labels::MEMBER, &container.name, attempt.attempt);
    let named_image = container.image.clone().unwrap_or_default();
    for (key, value) in [
        (labels::SANDBOX_ID, attempt.sandbox_id.to_owned()),
        (labels::RESTART_STEP, attempt.restart_step.to_string()),
        (labels::SPEC_IMAGE, named_image),
        (labels::PULLED_IMAGE, attempt.image.to_owned()),
    ] {
        labels.insert(key.to_owned(), value);
    }
    let expand = |list: &Option<Vec<String>>| {
        let list = list.as_ref().filter(|list| !list.is_empty())?;
        Some(list.iter().map(|text| attempt.env.expand(text)).collect::<Vec<_>>())
    };
    let mut mounts = binds(dir, spec, attempt.places, container, |text| attempt.env.expand(text))?;
    mounts.extend(standard_binds(dir, container, attempt.attempt, &mounts));
    let pause = Namespace::Container(attempt.sandbox_id.to_owned());
    let capabilities = security.capabilities.clone().unwrap_or_default();
    let pod_security = spec.security_context.clone().unwrap_or_default();
    let seccomp = security.seccomp_profile.as_ref().or(pod_security.seccomp_profile.as_ref());
    let groups = pod_security.supplemental_groups.unwrap_or_default().into_iter();
    Ok(ContainerSpec {
        name: context.identity.container_name(&container.name, attempt.attempt),
        image: attempt.image.to_owned(),
        labels,
        entrypoint: expand(&container.command),
        arguments: expand(&container.args),
        env: attempt.env.lines(),
        working_dir: container.working_dir.clone().filter(|dir| !dir.is_empty()),
        user: user(spec, &security),
        extra_groups: groups.chain(pod_security.fs_group).map(|group| group.to_string()).collect(),
        hostname: None,
        binds: mounts,
        network: if spec.host_network.unwrap_or(false) { Namespace::Host } else { pause.clone() },
        ipc: if spec.host_ipc.unwrap_or(false) { Namespace::Host } else { pause.clone() },
        pid: if spec.host_pid.unwrap_or(false) {
            Namespace::Host
        } else if let Some(target) = attempt.target_id {
            Namespace::Container(target.to_owned())
        } else if spec.share_process_namespace.unwrap_or(false) {
            pause
        } else {
            Namespace::Own
        },
        resources: resources(
            container,
            qos_class(spec),
            attempt.memory_capacity_bytes,
            context.oom_score_min,
        ),
        cgroup_parent: context.cgroup_parent.map(str::to_owned),
        privileged: security.privileged.unwrap_or(false),
        read_only_root: security.read_only_root_filesystem.unwrap_or(false),
        no_new_privileges: security.allow_privilege_escalation == Some(false),
        seccomp_unconfined: seccomp.is_some_and(|profile| profile.type_ == "Unconfined"),
        capabilities_add: capabilities.add.unwrap_or_default(),
        capabilities_drop: capabilities.drop.unwrap_or_default(),
        sysctls: BTreeMap::new(),
        tty: container.tty.unwrap_or(false),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
    })
}

/// The files every container gets, unless the pod mounts something there itself.
fn standard_binds(dir: &PodDir, container: &Container, attempt: u32, taken: &[Bind]) -> Vec<Bind> {
    let last_words =
        container.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".into());
    let free = |target: &str| !taken.iter().any(|bind| bind.target == target);
    [
        ("/etc/hosts".to_owned(), dir.hosts()),
        ("/etc/resolv.conf".to_owned(), dir.resolv_conf()),
        (last_words, dir.termination_log(&container.name, attempt)),
    ]
    .into_iter()
    .filter(|(target, _)| free(target))
    .map(|(target, source)| Bind { source, target, read_only: false, follows_host: false })
    .collect()
}

fn user(spec: &PodSpec, security: &SecurityContext) -> Option<String> {
    let pod = spec.security_context.clone().unwrap_or_default();
    let user = security.run_as_user.or(pod.run_as_user);
    let group = security.run_as_group.or(pod.run_as_group);
    match (user, group) {
        (Some(user), Some(group)) => Some(format!("{user}:{group}")),
        (Some(user), None) => Some(user.to_string()),
        (None, Some(group)) => Some(format!("0:{group}")),
        (None, None) => None,
    }
}

/// Refuses `runAsNonRoot` for what would run as root. `image_user` is the image's.
pub(crate) fn check_non_root(
    spec: &PodSpec,
    container: &Container,
    image_user: &str,
) -> Result<(), AgentError> {
    let security = container.security_context.clone().unwrap_or_default();
    let pod = spec.security_context.clone().unwrap_or_default();
    if !security.run_as_non_root.or(pod.run_as_non_root).unwrap_or(false) {
        return Ok(());
    }
    let by_image = image_user.split(':').next().unwrap_or_default();
    let is_root = match security.run_as_user.or(pod.run_as_user) {
        Some(user) => user == 0,
        None if by_image.is_empty() => true,
        None => match by_image.parse::<u32>() {
            Ok(user) => user == 0,
            Err(_) => {
                let reason = format!(
                    "container has runAsNonRoot and image has non-numeric user ({by_image}), cannot verify user is non-root"
                );
                return Err(AgentError::config(reason));
            }
        },
    };
    if is_root {
        return Err(AgentError::config("container has runAsNonRoot and would run as root"));
    }
    Ok(())
}

fn resources(
    container: &Container,
    class: &str,
    memory_capacity_bytes: i64,
    oom_score_min: i64,
) -> Resources {
    let given = container.resources.clone().unwrap_or_default();
    let (limits, requests) = (given.limits.as_ref(), given.requests.as_ref());
    let cpu_limit_milli = milli_of(limits, "cpu").filter(|milli| *milli > 0);
    let cpu_request = milli_of(requests, "cpu").or(cpu_limit_milli).unwrap_or(0);
    let memory_limit_bytes = units_of(limits, "memory").filter(|bytes| *bytes > 0);
    let memory_request = units_of(requests, "memory").or(memory_limit_bytes).unwrap_or(0);
    // The kubelet's scores, by the class of the whole pod: guaranteed pods last,
    // best-effort pods first.
    let oom_score_adj = match class {
        "Guaranteed" => -997,
        "BestEffort" => 1_000,
        _ => {
            let capacity = i128::from(memory_capacity_bytes.max(1));
            let share = i128::from(memory_request) * 1_000 / capacity;
            i64::try_from(1_000 - share).unwrap_or(2).clamp(3, 999)
        }
    };
    Resources {
        cpu_limit_milli,
        cpu_shares: Some((cpu_request * SHARES_PER_CPU / 1_000).clamp(SHARES_MIN, 262_144)),
        memory_limit_bytes,
        oom_score_adj: Some(oom_score_adj.max(oom_score_min)),
    }
}

#[cfg(test)]
#[path = "container_spec_tests.rs"]
mod tests;
