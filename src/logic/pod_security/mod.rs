//! Pod Security: which pods a namespace takes, as its labels say.
//!
//! ```text
//! pod-security.kubernetes.io/enforce          refuses pods
//! pod-security.kubernetes.io/audit            notes them in the audit log
//! pod-security.kubernetes.io/warn             tells the client
//! …-version                                   latest, or v1.x: the rules of that release
//! ```
//! Source: `staging/src/k8s.io/pod-security-admission`; words are Kubernetes' to the letter.
//! Invariants: a label that cannot be read enforces `restricted`, and neither warns nor
//! notes; without labels everything is allowed; nobody is exempt.
//! Not here: which requests are judged (`objects/pod_security`), the rules (`checks`).

mod checks;

use std::fmt;

use serde_json::Value;

const PREFIX: &str = "pod-security.kubernetes.io/";
/// The release whose rules `latest` means: that of the API that is served.
const LATEST_MINOR: u32 = 32;

/// How much a pod may ask for; later ones are stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        [Level::Privileged, Level::Baseline, Level::Restricted]
            .into_iter()
            .find(|level| level.name() == text)
    }

    fn name(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// Whose rules: `latest`, or those of `v1.N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    Latest,
    Minor(u32),
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let digits = text.strip_prefix("v1.")?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let minor = digits.parse().ok().filter(|_| plain)?;
        (digits == "0" || !digits.starts_with('0')).then_some(Version::Minor(minor))
    }

    fn minor(self) -> u32 {
        match self {
            Version::Latest => LATEST_MINOR,
            Version::Minor(minor) => minor.min(LATEST_MINOR),
        }
    }
}

/// A level at a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standard {
    pub level: Level,
    pub version: Version,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level.name()),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
        }
    }
}

/// What a namespace asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub enforce: Standard,
    pub audit: Standard,
    pub warn: Standard,
}

/// A label that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLabel {
    /// `metadata.labels[KEY]`.
    pub field: String,
    pub value: String,
    pub why: &'static str,
}

impl fmt::Display for BadLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: Invalid value: {:?}: {}", self.field, self.value, self.why)
    }
}

struct Labels<'v> {
    labels: Option<&'v Value>,
    bad: Vec<BadLabel>,
}

impl Labels<'_> {
    /// What a label says; the error is told, and `None` stands for an absent label.
    fn read<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
        why: &'static str,
    ) -> Option<Result<T, ()>> {
        let value = self.labels?.get(format!("{PREFIX}{name}"))?.as_str()?;
        if let Some(parsed) = parse(value) {
            return Some(Ok(parsed));
        }
        let field = format!("metadata.labels[{PREFIX}{name}]");
        self.bad.push(BadLabel { field, value: value.to_owned(), why });
        Some(Err(()))
    }

    fn level(&mut self, name: &str, if_bad: Level) -> Option<Result<Level, Level>> {
        let why = "must be one of privileged, baseline, restricted";
        self.read(name, Level::parse, why).map(|level| level.map_err(|()| if_bad))
    }

    fn version(&mut self, name: &str) -> Option<Version> {
        let why = "must be \"latest\" or \"v1.x\"";
        self.read(name, Version::parse, why).map(|version| version.unwrap_or_default())
    }
}

fn either(level: Result<Level, Level>) -> Level {
    level.unwrap_or_else(|if_bad| if_bad)
}

/// What a namespace's labels say, and which of them cannot be read.
pub fn policy_of(namespace: &Value) -> (Policy, Vec<BadLabel>) {
    let labels = namespace.pointer("/metadata/labels");
    let mut labels = Labels { labels, bad: Vec::new() };
    let mut policy = Policy::default();
    let enforce = labels.level("enforce", Level::Restricted);
    policy.enforce.level = enforce.map_or(Level::Privileged, either);
    policy.enforce.version = labels.version("enforce-version").unwrap_or_default();
    let audit = labels.level("audit", Level::Privileged);
    policy.audit.level = audit.map_or(Level::Privileged, either);
    policy.audit.version = labels.version("audit-version").unwrap_or_default();
    let warn = labels.level("warn", Level::Privileged);
    let warn_version = labels.version("warn-version");
    policy.warn.level = warn.map_or(Level::Privileged, either);
    policy.warn.version = warn_version.unwrap_or_default();
    // Who is refused a pod should have been warned of the workload that makes it.
    if warn.is_none()
        && let Some(Ok(level)) = enforce
    {
        policy.warn.level = level;
        policy.warn.version = warn_version.unwrap_or(policy.enforce.version);
    }
    (policy, labels.bad)
}

/// One rule that a pod breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    reason: String,
    detail: String,
}

/// The rules that a pod breaks, `metadata` and `spec` of the pod or of a template.
pub fn violations(standard: Standard, metadata: &Value, spec: &Value) -> Vec<Violation> {
    checks::run(standard.level, standard.version.minor(), metadata, spec)
}

/// The rules' names, for one line about several pods.
pub fn reasons(violations: &[Violation]) -> String {
    let reasons: Vec<&str> = violations.iter().map(|one| one.reason.as_str()).collect();
    reasons.join(", ")
}

/// The same with what exactly is wrong.
pub fn details(violations: &[Violation]) -> String {
    let texts = violations.iter().map(|Violation { reason, detail }| match detail.as_str() {
        "" => reason.clone(),
        detail => format!("{reason} ({detail})"),
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// Whether a changed pod must be judged anew: an image or a container has changed.
pub fn is_significant(old: &Value, new: &Value) -> bool {
    let list = |pod: &Value, name: &str| -> Vec<Value> {
        pod["spec"][name].as_array().cloned().unwrap_or_default()
    };
    let image = |container: &Value| container["image"].clone();
    for name in ["containers", "initContainers"] {
        let (before, after) = (list(old, name), list(new, name));
        if before.len() != after.len()
            || before.iter().zip(&after).any(|(before, after)| image(before) != image(after))
        {
            return true;
        }
    }
    let before = list(old, "ephemeralContainers");
    list(new, "ephemeralContainers").iter().any(|container| {
        let own = before.iter().find(|one| one["name"] == container["name"]);
        own.is_none_or(|own| image(own) != image(container))
    })
}

/// What is said when a namespace begins to enforce more than its pods keep.
pub fn about_existing(namespace: &str, enforce: Standard, pods: &[Value]) -> Vec<String> {
    let mut found: Vec<(String, &str, usize)> = Vec::new();
    for pod in pods {
        let broken = violations(enforce, &pod["metadata"], &pod["spec"]);
        if broken.is_empty() {
            continue;
        }
        let (reasons, name) = (reasons(&broken), pod["metadata"]["name"].as_str().unwrap_or(""));
        match found.iter_mut().find(|(known, ..)| *known == reasons) {
            Some((_, first, count)) => {
                *first = name.min(first);
                *count += 1;
            }
            None => found.push((reasons, name, 1)),
        }
    }
    if found.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<String> = found
        .iter()
        .map(|(reasons, name, count)| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            more => format!("{name} (and {} other pods): {reasons}", more - 1),
        })
        .collect();
    lines.sort();
    let head = format!(
        "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \
         \"{enforce}\""
    );
    std::iter::once(head).chain(lines).collect()
}

#[cfg(test)]
mod tests;
