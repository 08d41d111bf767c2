//! The rules of the Pod Security Standards, each in the releases in which it holds.
//!
//! Order: baseline's rules by their Kubernetes names, then those of restricted, which take
//! the place of baseline's where they say more.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Level, Violation};

/// Pod and containers as the rules see them.
struct Pod<'v> {
    metadata: &'v Value,
    spec: &'v Value,
    /// Of the release whose rules are asked for.
    minor: u32,
}

type Check = fn(&Pod<'_>) -> Option<Violation>;

const BASELINE: &[Check] = &[
    app_armor,
    baseline_capabilities,
    host_namespaces,
    host_path_volumes,
    host_ports,
    privileged,
    proc_mount,
    selinux,
    baseline_seccomp,
    sysctls,
    windows_host_process,
];

/// Those of baseline that restricted says itself are left out.
const RESTRICTED: &[Check] = &[
    app_armor,
    host_namespaces,
    host_ports,
    privileged,
    proc_mount,
    selinux,
    sysctls,
    windows_host_process,
    allow_privilege_escalation,
    restricted_capabilities,
    restricted_volumes,
    run_as_non_root,
    run_as_user,
    restricted_seccomp,
];

/// Before their first release the stricter rules are baseline's.
const BEFORE: &[(u32, Check)] = &[(22, baseline_capabilities), (19, baseline_seccomp)];

pub(super) fn run(level: Level, minor: u32, metadata: &Value, spec: &Value) -> Vec<Violation> {
    let pod = Pod { metadata, spec, minor };
    let checks = match level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => BASELINE,
        Level::Restricted => RESTRICTED,
    };
    let older = BEFORE.iter().filter(|(since, _)| level == Level::Restricted && minor < *since);
    let older = older.filter_map(|(_, check)| check(&pod));
    older.chain(checks.iter().filter_map(|check| check(&pod))).collect()
}

fn violation(reason: &str, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail: detail.into() })
}

fn plural<'t>(one: &'t str, many: &'t str, count: usize) -> &'t str {
    if count == 1 { one } else { many }
}

fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names = names.into_iter().map(|name| format!("{:?}", name.as_ref()));
    names.collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn is_true(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer) == Some(&Value::Bool(true))
}

fn items<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

impl<'v> Pod<'v> {
    fn containers(&self) -> impl Iterator<Item = &'v Value> {
        let lists = ["/initContainers", "/containers", "/ephemeralContainers"];
        let spec = self.spec;
        lists.into_iter().flat_map(move |list| items(spec, list))
    }

    /// The names of containers that something is wrong with.
    fn bad(&self, mut is_bad: impl FnMut(&'v Value) -> bool) -> Vec<&'v str> {
        let bad = self.containers().filter(|container| is_bad(container));
        bad.map(|container| text(container, "/name")).collect()
    }

    fn is_windows(&self) -> bool {
        self.minor >= 25 && text(self.spec, "/os/name") == "windows"
    }

    /// `pod and container "a"`: where a field of a security context has a bad value.
    fn setters(&self, mut is_bad: impl FnMut(&'v Value) -> bool) -> Vec<String> {
        let mut setters = Vec::new();
        let own = self.spec.get("securityContext").is_some_and(&mut is_bad);
        if own {
            setters.push("pod".to_owned());
        }
        let bad = self.bad(|container| container.get("securityContext").is_some_and(&mut is_bad));
        if !bad.is_empty() {
            setters.push(containers(&bad));
        }
        setters
    }
}

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    const KEY: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = BTreeSet::new();
    let mut setters = pod.setters(|context| {
        let profile = text(context, "/appArmorProfile/type");
        let bad = !["", "RuntimeDefault", "Localhost"].contains(&profile);
        if bad {
            values.insert(profile.to_owned());
        }
        bad
    });
    let annotations = pod.metadata.get("annotations").and_then(Value::as_object);
    let mut forbidden = Vec::new();
    for (key, value) in annotations.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let allowed = value.is_empty() || value == "runtime/default";
        if key.starts_with(KEY) && !allowed && !value.starts_with("localhost/") {
            forbidden.push(format!("{key}={value:?}"));
            values.insert(value.to_owned());
        }
    }
    if !forbidden.is_empty() {
        forbidden.sort();
        let word = plural("annotation", "annotations", forbidden.len());
        setters.push(format!("{word} {}", forbidden.join(", ")));
    }
    if setters.is_empty() {
        return None;
    }
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let detail = format!(
        "{} must not set AppArmor profile type to {}",
        setters.join(" and "),
        quoted(values)
    );
    violation(reason, detail)
}

const DEFAULT_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Who adds capabilities beyond `allowed`, in words.
fn added(pod: &Pod<'_>, allowed: &[&str]) -> Option<String> {
    let mut forbidden = BTreeSet::new();
    let bad = pod.bad(|container| {
        let added = items(container, "/securityContext/capabilities/add");
        let beyond: Vec<&str> = added
            .filter_map(Value::as_str)
            .filter(|capability| !allowed.contains(capability))
            .collect();
        forbidden.extend(beyond.iter().copied());
        !beyond.is_empty()
    });
    (!bad.is_empty()).then(|| {
        let (bad, forbidden) = (containers(&bad), quoted(forbidden));
        format!("{bad} must not include {forbidden} in securityContext.capabilities.add")
    })
}

fn baseline_capabilities(pod: &Pod<'_>) -> Option<Violation> {
    violation("non-default capabilities", added(pod, DEFAULT_CAPABILITIES)?)
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let fields = ["hostNetwork", "hostPID", "hostIPC"];
    let set = fields.iter().filter(|field| pod.spec.get(**field) == Some(&Value::Bool(true)));
    let set: Vec<String> = set.map(|field| format!("{field}=true")).collect();
    if set.is_empty() { None } else { violation("host namespaces", set.join(", ")) }
}

fn host_path_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let bad: Vec<&str> = items(pod.spec, "/volumes")
        .filter(|volume| volume.get("hostPath").is_some_and(|path| !path.is_null()))
        .map(|volume| text(volume, "/name"))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let word = plural("volume", "volumes", bad.len());
    violation("hostPath volumes", format!("{word} {}", quoted(bad)))
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut forbidden = BTreeSet::new();
    let bad = pod.bad(|container| {
        let ports: Vec<i64> = items(container, "/ports")
            .filter_map(|port| port.get("hostPort")?.as_i64())
            .filter(|port| *port != 0)
            .collect();
        forbidden.extend(ports.iter().map(ToString::to_string));
        !ports.is_empty()
    });
    if bad.is_empty() {
        return None;
    }
    let (verb, word) =
        (plural("uses", "use", bad.len()), plural("hostPort", "hostPorts", forbidden.len()));
    let ports = forbidden.into_iter().collect::<Vec<_>>().join(", ");
    violation("hostPort", format!("{} {verb} {word} {ports}", containers(&bad)))
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.bad(|container| is_true(container, "/securityContext/privileged"));
    if bad.is_empty() {
        return None;
    }
    let bad = containers(&bad);
    violation("privileged", format!("{bad} must not set securityContext.privileged=true"))
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut forbidden = BTreeSet::new();
    let bad = pod.bad(|container| {
        let kind = text(container, "/securityContext/procMount");
        let is_bad = !["", "Default"].contains(&kind);
        if is_bad {
            forbidden.insert(kind);
        }
        is_bad
    });
    if bad.is_empty() {
        return None;
    }
    let (bad, forbidden) = (containers(&bad), quoted(forbidden));
    violation("procMount", format!("{bad} must not set securityContext.procMount to {forbidden}"))
}

fn selinux(pod: &Pod<'_>) -> Option<Violation> {
    let mut allowed = vec!["", "container_t", "container_init_t", "container_kvm_t"];
    if pod.minor >= 31 {
        allowed.push("container_engine_t");
    }
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let setters = pod.setters(|context| {
        let kind = text(context, "/seLinuxOptions/type");
        let bad_type = !allowed.contains(&kind);
        if bad_type {
            types.insert(kind.to_owned());
        }
        let own_user = !text(context, "/seLinuxOptions/user").is_empty();
        let own_role = !text(context, "/seLinuxOptions/role").is_empty();
        user |= own_user;
        role |= own_role;
        bad_type || own_user || own_role
    });
    if setters.is_empty() {
        return None;
    }
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    if user {
        data.push("user may not be set".to_owned());
    }
    if role {
        data.push("role may not be set".to_owned());
    }
    let (setters, data) = (setters.join(" and "), data.join("; "));
    let detail = format!("{setters} set forbidden securityContext.seLinuxOptions: {data}");
    violation("seLinuxOptions", detail)
}

fn is_good_profile(context: &Value) -> bool {
    ["RuntimeDefault", "Localhost"].contains(&text(context, "/seccompProfile/type"))
}

/// Who says a profile that is not allowed.
fn bad_seccomp(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let setters = pod.setters(|context| {
        let said = context.get("seccompProfile").is_some_and(|profile| !profile.is_null());
        let bad = said && !is_good_profile(context);
        if bad {
            values.insert(text(context, "/seccompProfile/type").to_owned());
        }
        bad
    });
    if setters.is_empty() {
        return None;
    }
    let (setters, values) = (setters.join(" and "), quoted(&values));
    let detail = format!("{setters} must not set securityContext.seccompProfile.type to {values}");
    violation("seccompProfile", detail)
}

fn baseline_seccomp(pod: &Pod<'_>) -> Option<Violation> {
    if pod.minor >= 19 {
        return bad_seccomp(pod);
    }
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let annotations = pod.metadata.get("annotations");
    let own = pod.containers().map(|container| format!("{CONTAINER}{}", text(container, "/name")));
    let mut forbidden = BTreeSet::new();
    for key in std::iter::once(POD.to_owned()).chain(own) {
        let said = annotations.and_then(|all| all.get(&key)).and_then(Value::as_str);
        let Some(value) = said else { continue };
        let allowed = ["runtime/default", "docker/default"].contains(&value);
        if !allowed && !value.starts_with("localhost/") {
            forbidden.insert(format!("{key}={value:?}"));
        }
    }
    if forbidden.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", forbidden.len());
    let list = forbidden.into_iter().collect::<Vec<_>>().join(", ");
    violation("seccompProfile", format!("forbidden {word} {list}"))
}

/// Safe sysctls, and since which release they count as such.
const SYSCTLS: &[(&str, u32)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    let is_safe =
        |name: &str| SYSCTLS.iter().any(|(own, since)| *own == name && pod.minor >= *since);
    let bad: Vec<&str> = items(pod.spec, "/securityContext/sysctls")
        .map(|sysctl| text(sysctl, "/name"))
        .filter(|name| !is_safe(name))
        .collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let setters = pod.setters(|context| is_true(context, "/windowsOptions/hostProcess"));
    if setters.is_empty() {
        return None;
    }
    let setters = setters.join(" and ");
    let detail = format!("{setters} must not set securityContext.windowsOptions.hostProcess=true");
    violation("hostProcess", detail)
}

fn allow_privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    if pod.minor < 8 || pod.is_windows() {
        return None;
    }
    let bad = pod.bad(|container| {
        let said = container.pointer("/securityContext/allowPrivilegeEscalation");
        said != Some(&Value::Bool(false))
    });
    if bad.is_empty() {
        return None;
    }
    let bad = containers(&bad);
    let detail = format!("{bad} must set securityContext.allowPrivilegeEscalation=false");
    violation("allowPrivilegeEscalation != false", detail)
}

fn restricted_capabilities(pod: &Pod<'_>) -> Option<Violation> {
    if pod.minor < 22 || pod.is_windows() {
        return None;
    }
    let lacking = pod.bad(|container| {
        !items(container, "/securityContext/capabilities/drop").any(|dropped| dropped == "ALL")
    });
    let mut details = Vec::new();
    if !lacking.is_empty() {
        let lacking = containers(&lacking);
        details.push(format!("{lacking} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    details.extend(added(pod, &["NET_BIND_SERVICE"]));
    if details.is_empty() {
        None
    } else {
        violation("unrestricted capabilities", details.join("; "))
    }
}

const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
];

fn restricted_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in items(pod.spec, "/volumes") {
        let fields = volume.as_object().into_iter().flatten();
        let mut kind = fields.filter(|(field, value)| *field != "name" && !value.is_null());
        let kind = kind.next().map_or("unknown", |(field, _)| field.as_str());
        if !VOLUMES.contains(&kind) {
            names.push(text(volume, "/name"));
            kinds.insert(kind);
        }
    }
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quoted(&names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(kinds),
    );
    violation("restricted volume types", detail)
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    let reason = "runAsNonRoot != true";
    let said = |context: &Value| context.get("runAsNonRoot").and_then(Value::as_bool);
    let setters = pod.setters(|context| said(context) == Some(false));
    if !setters.is_empty() {
        let setters = setters.join(" and ");
        let detail = format!("{setters} must not set securityContext.runAsNonRoot=false");
        return violation(reason, detail);
    }
    if pod.spec.get("securityContext").and_then(said) == Some(true) {
        return None;
    }
    let bad = pod.bad(|container| container.get("securityContext").and_then(said).is_none());
    if bad.is_empty() {
        return None;
    }
    let bad = containers(&bad);
    violation(reason, format!("pod or {bad} must set securityContext.runAsNonRoot=true"))
}

fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    if pod.minor < 23 {
        return None;
    }
    let setters = pod.setters(|context| context.get("runAsUser").is_some_and(|user| user == 0));
    if setters.is_empty() {
        return None;
    }
    violation("runAsUser=0", format!("{} must not set runAsUser=0", setters.join(" and ")))
}

fn restricted_seccomp(pod: &Pod<'_>) -> Option<Violation> {
    if pod.minor < 19 || pod.is_windows() {
        return None;
    }
    if let Some(bad) = bad_seccomp(pod) {
        return Some(bad);
    }
    let said = |context: &Value| context.get("seccompProfile").is_some_and(|one| !one.is_null());
    if pod.spec.get("securityContext").is_some_and(said) {
        return None;
    }
    let bad = pod.bad(|container| !container.get("securityContext").is_some_and(said));
    if bad.is_empty() {
        return None;
    }
    let bad = containers(&bad);
    let detail = format!(
        "pod or {bad} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
         \"Localhost\""
    );
    violation("seccompProfile", detail)
}
