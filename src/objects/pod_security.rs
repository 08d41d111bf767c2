//! Judges pods, workloads and namespaces by the Pod Security Standards.
//!
//! ```text
//! pod          made, or with another image: refused, noted, warned of
//! workload     made or changed: noted, warned of; its pods are what is refused
//! namespace    labels that cannot be read are refused; pods that a stricter level would
//!              refuse are told of
//! ```
//! Invariants: a namespace without labels costs nothing but the look at it; what is said goes
//! to the author of the request, and into its record in the audit log.
//! Not here: the rules (`logic/pod_security`).

use serde_json::Value;

use super::access::Author;
use super::{Address, ListRequest, Objects, admission};
use crate::logic::pod_security::{self, Level, Policy, Standard};
use crate::model::kinds::{self, Kind, Problems};
use crate::model::status::Status;

/// Pods of a namespace that are looked at when it becomes stricter.
const PODS_MAX: usize = 3_000;
const NOTE: &str = "pod-security.kubernetes.io/";

/// Where a kind's objects say what pods they make; the pods themselves at the root.
fn template_of(kind: &Kind) -> Option<&'static str> {
    match (kind.group, kind.kind) {
        ("", "Pod") => Some(""),
        ("", "PodTemplate") => Some("/template"),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// Whether the standards speak of the kind.
pub(super) fn are_about(kind: &Kind) -> bool {
    template_of(kind).is_some() || is_namespace(kind)
}

fn is_namespace(kind: &Kind) -> bool {
    kind.kind == "Namespace" && kind.group.is_empty()
}

impl Objects {
    /// Judges a new object (`old` is `None`) or a changed one, but for its status. A new
    /// object's namespace is known; that of a changed one is looked up.
    pub(super) async fn admit_pod_security(
        &self,
        address: &Address,
        namespace: Option<&Value>,
        old: Option<&Value>,
        new: &Value,
        author: Option<&Author>,
    ) -> Result<(), Status> {
        let kind = address.kind;
        if is_namespace(kind) {
            return self.admit_namespace_labels(address, old, new, author).await;
        }
        let Some(template) = template_of(kind) else { return Ok(()) };
        let is_pod = template.is_empty();
        if is_pod && old.is_some_and(|old| !pod_security::is_significant(old, new)) {
            return Ok(());
        }
        let looked_up;
        let namespace = match namespace {
            Some(namespace) => namespace,
            None => {
                let home = Address::new(admission::namespace_kind(), None, &address.namespace);
                let Some(found) = self.fetch_as(&home, true).await? else { return Ok(()) };
                looked_up = found.object;
                &looked_up
            }
        };
        let (policy, bad) = pod_security::policy_of(namespace);
        if policy == Policy::default() && bad.is_empty() {
            return Ok(());
        }
        let Some(pod) = new.pointer(template) else { return Ok(()) };
        let judged = |standard| pod_security::violations(standard, &pod["metadata"], &pod["spec"]);
        let note = |key: &str, text: String| {
            if let Some(author) = author {
                author.annotate(&format!("{NOTE}{key}"), text);
            }
        };
        if !bad.is_empty() {
            let list: Vec<String> = bad.iter().map(ToString::to_string).collect();
            note("error", format!("Failed to parse policy: {}", list.join(", ")));
        }
        let broken = judged(policy.audit);
        if !broken.is_empty() {
            note("audit-violations", would_violate(policy.audit, &broken));
        }
        if is_pod {
            note("enforce-policy", policy.enforce.to_string());
            let broken = judged(policy.enforce);
            if !broken.is_empty() {
                let details = pod_security::details(&broken);
                let why = format!("violates PodSecurity \"{}\": {details}", policy.enforce);
                return Err(Status::forbidden(kind.plural, kind.group, &address.name, &why));
            }
        }
        let broken = judged(policy.warn);
        if let Some(author) = author.filter(|_| !broken.is_empty()) {
            author.warn(would_violate(policy.warn, &broken));
        }
        Ok(())
    }

    /// Labels must be readable, unless they were unreadable before; pods that are there
    /// and would not be let in now are told of.
    async fn admit_namespace_labels(
        &self,
        address: &Address,
        old: Option<&Value>,
        new: &Value,
        author: Option<&Author>,
    ) -> Result<(), Status> {
        let (policy, bad) = pod_security::policy_of(new);
        let before = old.map(pod_security::policy_of);
        if !bad.is_empty() && before.as_ref().is_none_or(|(_, before)| *before != bad) {
            let mut problems = Problems::default();
            for label in &bad {
                problems.invalid(&label.field, &label.value.as_str().into(), label.why);
            }
            let causes = problems.into_causes();
            return Err(Status::invalid(address.kind.kind, "", &address.name, causes));
        }
        let (Some((before, _)), Some(author)) = (before, author) else { return Ok(()) };
        let (was, is) = (before.enforce, policy.enforce);
        let relaxed = was.version == is.version && is.level <= was.level;
        if was == is || is.level == Level::Privileged || relaxed {
            return Ok(());
        }
        let kind = kinds::by_path("", "v1", "pods").ok_or_else(Status::unknown_resource)?;
        let mut list = ListRequest::all(kind, Some(&address.name));
        list.limit = PODS_MAX;
        list.resource_version = Some("0".into());
        let listing = self.list(&list).await?;
        if let Some(rest) = listing.remaining.filter(|rest| *rest > 0) {
            let all = PODS_MAX + usize::try_from(rest).unwrap_or_default();
            author.warn(format!(
                "new PodSecurity enforce level only checked against the first {PODS_MAX} of {all} \
                 existing pods"
            ));
        }
        for line in pod_security::about_existing(&address.name, is, &listing.items) {
            author.warn(line);
        }
        Ok(())
    }
}

fn would_violate(standard: Standard, broken: &[pod_security::Violation]) -> String {
    format!("would violate PodSecurity \"{standard}\": {}", pod_security::details(broken))
}
