//! What an autoscaler's metrics say, one after the other.
//!
//! Resource and ContainerResource come from the nodes. Pods, Object and External would come
//! from `custom.metrics.k8s.io` and `external.metrics.k8s.io`, which nothing here serves; they
//! fail as they do on a Kubernetes without an adapter.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::informers::node_of;
use crate::client::typed::Kind;
use crate::client::usage::{NodeReport, PodUsage, SharedUsage};
use crate::logic::amount;
use crate::logic::autoscale::calculator::{Proposal, Situation, Target, propose};
use crate::logic::autoscale::{Sample, ScaledPod, Tolerances, milli_text};

/// What pods use, by uid.
pub(super) type PodsUsage = HashMap<String, PodUsage>;

/// What metrics are judged by.
pub(super) struct MetricContext<'a> {
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) usage: &'a PodsUsage,
    pub(super) replicas: i64,
    pub(super) behavior: &'a Value,
    pub(super) now: Timestamp,
}

/// No metric says anything, or one is missing that could say that more are needed.
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) condition: String,
    pub(super) whole: String,
}

/// What all metrics came to.
pub(super) struct Judged {
    pub(super) statuses: Vec<Value>,
    /// Reason and text of each that said nothing.
    pub(super) failures: Vec<(&'static str, String)>,
    pub(super) result: Result<(i64, String), Failure>,
}

struct Said {
    replicas: i64,
    name: String,
    status: Value,
}

/// Asks the nodes that have the pods.
pub(super) async fn usage_of(reader: Option<&SharedUsage>, pods: &[Arc<Pod>]) -> PodsUsage {
    let Some(reader) = reader else { return PodsUsage::new() };
    let mut nodes: Vec<String> =
        pods.iter().filter_map(|pod| node_of(pod).map(str::to_owned)).collect();
    nodes.sort();
    nodes.dedup();
    let reports = reader.reports(&nodes).await;
    // A node is believed only about the pods that are its own.
    let used = pods.iter().filter_map(|pod| {
        let report: &Arc<NodeReport> = reports.get(node_of(pod)?)?;
        report.pods.iter().find(|used| used.uid == pod.uid())
    });
    used.map(|used| (used.uid.clone(), used.clone())).collect()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// All metrics of the autoscaler.
pub(super) fn judge(context: &MetricContext<'_>, autoscaler: &Value) -> Judged {
    let specs = autoscaler.pointer("/spec/metrics").and_then(Value::as_array);
    let specs = specs.map(Vec::as_slice).unwrap_or_default();
    let mut judged =
        Judged { statuses: Vec::new(), failures: Vec::new(), result: Ok((0, String::new())) };
    let mut best: Option<(i64, String)> = None;
    let mut first: Option<(&'static str, String)> = None;
    for spec in specs {
        match one(context, spec) {
            Ok(said) => {
                if best.as_ref().is_none_or(|(held, _)| said.replicas > *held) {
                    best = Some((said.replicas, said.name));
                }
                judged.statuses.push(said.status);
            }
            Err((reason, why)) => {
                judged.failures.push((reason, why.clone()));
                first.get_or_insert((reason, why));
            }
        }
    }
    let invalid = judged.failures.len();
    let shrinks = best.as_ref().is_none_or(|(replicas, _)| *replicas < context.replicas);
    judged.result = match (best, first) {
        (Some(best), None) => Ok(best),
        (Some(best), Some(_)) if !shrinks => Ok(best),
        (_, Some((reason, why))) => Err(Failure {
            reason,
            condition: format!("the HPA was unable to compute the replica count: {why}"),
            whole: format!(
                "invalid metrics ({invalid} invalid out of {}), first error is: {why}",
                specs.len()
            ),
        }),
        (None, None) => Err(Failure {
            reason: "InvalidMetricSourceType",
            condition: "the HPA names no metric".into(),
            whole: "the HPA names no metric".into(),
        }),
    };
    judged
}

fn one(context: &MetricContext<'_>, spec: &Value) -> Result<Said, (&'static str, String)> {
    let absent = |group: &str| {
        format!(
            "unable to fetch metrics from {group} metrics API: the server could not find the requested resource (get {group}.metrics.k8s.io)"
        )
    };
    match text(spec, "/type") {
        "Resource" => {
            resource(context, spec, "resource").map_err(|why| ("FailedGetResourceMetric", why))
        }
        "ContainerResource" => resource(context, spec, "containerResource")
            .map_err(|why| ("FailedGetContainerResourceMetric", why)),
        "Pods" => {
            let name = text(spec, "/pods/metric/name");
            let why = format!("unable to get metric {name}: {}", absent("custom"));
            Err(("FailedGetPodsMetric", why))
        }
        "Object" => {
            let (name, kind) =
                (text(spec, "/object/metric/name"), text(spec, "/object/describedObject/kind"));
            let object = text(spec, "/object/describedObject/name");
            let why =
                format!("unable to get metric {name}: {kind} on {object}: {}", absent("custom"));
            Err(("FailedGetObjectMetric", why))
        }
        "External" => {
            let name = text(spec, "/external/metric/name");
            let why = format!("unable to get external metric {name}: {}", absent("external"));
            Err(("FailedGetExternalMetric", why))
        }
        other => Err(("InvalidMetricSourceType", format!("unknown metric source type {other:?}"))),
    }
}

/// `Resource` or `ContainerResource`.
fn resource(context: &MetricContext<'_>, spec: &Value, field: &str) -> Result<Said, String> {
    let spec = &spec[field];
    let (name, container) = (text(spec, "/name"), text(spec, "/container"));
    let percent = spec.pointer("/target/averageUtilization").and_then(Value::as_i64);
    let kind = if container.is_empty() { "resource" } else { "container resource" };
    let (target, what) = match percent {
        Some(percent) => (
            Target::Utilization(percent),
            format!("{name} {kind} utilization (percentage of request)"),
        ),
        None => {
            let wanted = text(spec, "/target/averageValue");
            let wanted = amount::milli(wanted).and_then(|milli| i64::try_from(milli).ok());
            let Some(wanted) = wanted else {
                return Err("invalid resource metric source: neither an average utilization target nor an average value (raw) target was set".into());
            };
            (Target::AverageValue(wanted), format!("{name} {kind}"))
        }
    };
    let failed = |why: String| match (percent, container) {
        (Some(_), "") => format!("failed to get {name} utilization: {why}"),
        (None, "") => format!("failed to get {name} usage: {why}"),
        (Some(_), _) => format!("failed to get {name} container metric value: {why}"),
        (None, _) => format!("failed to get {name} container usage: {why}"),
    };
    let pods: Vec<ScaledPod> =
        context.pods.iter().map(|pod| scaled(context, pod, name, container)).collect();
    if pods.iter().any(|pod| !pod.ignored) && pods.iter().all(|pod| pod.sample.is_none()) {
        let why = format!(
            "unable to get metrics for resource {name}: no metrics returned from resource metrics API"
        );
        return Err(failed(why));
    }
    let found = propose(
        &Situation {
            pods: &pods,
            replicas: context.replicas,
            is_cpu: name == "cpu",
            tolerances: tolerances(context.behavior),
            now: context.now,
        },
        target,
    );
    let found = found.map_err(failed)?;
    let status = status(spec, field, container, name, &found);
    Ok(Said { replicas: found.replicas, name: what, status })
}

fn status(_: &Value, field: &str, container: &str, name: &str, found: &Proposal) -> Value {
    let mut current = json!({"averageValue": milli_text(found.average)});
    if let Some(percent) = found.utilization {
        current["averageUtilization"] = percent.into();
    }
    let mut body = json!({"name": name, "current": current});
    let kind = if container.is_empty() {
        "Resource"
    } else {
        body["container"] = container.into();
        "ContainerResource"
    };
    json!({"type": kind, field: body})
}

fn tolerances(behavior: &Value) -> Tolerances {
    let mut tolerances = Tolerances::default();
    let of = |direction: &str| {
        let text = behavior.pointer(&format!("/{direction}/tolerance")).and_then(Value::as_str)?;
        amount::milli(text).map(|milli| milli as f64 / 1_000.0)
    };
    if let Some(up) = of("scaleUp") {
        tolerances.up = up;
    }
    if let Some(down) = of("scaleDown") {
        tolerances.down = down;
    }
    tolerances
}

fn scaled(context: &MetricContext<'_>, pod: &Pod, resource: &str, container: &str) -> ScaledPod {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    let ready = ready.map(|condition| {
        let since = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
        (condition.status != "False", since)
    });
    ScaledPod {
        name: pod.key().name,
        ignored: pod.is_terminating() || phase == "Failed",
        pending: phase == "Pending",
        started: status.and_then(|status| status.start_time.as_ref()).map(|time| time.0),
        ready,
        request: request(pod, resource, container),
        sample: context
            .usage
            .get(pod.uid())
            .and_then(|used| sample(pod, used, resource, container)),
    }
}

/// The containers that run for as long as the pod does.
fn lasting(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    let starting = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let sidecars = starting.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    spec.map(|spec| spec.containers.iter()).into_iter().flatten().chain(sidecars)
}

fn request(pod: &Pod, resource: &str, container: &str) -> Result<i64, String> {
    let mut sum = 0_i64;
    let mut seen = false;
    for one in lasting(pod).filter(|one| container.is_empty() || one.name == container) {
        seen = true;
        let requests = one.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        match amount::milli_of(requests, resource) {
            Some(milli) => sum = sum.saturating_add(milli),
            None => {
                return Err(format!(
                    "missing request for {resource} in container {} of Pod {}",
                    one.name,
                    pod.key().name
                ));
            }
        }
    }
    if seen {
        Ok(sum)
    } else {
        Err(format!("container {container} not found in Pod {}", pod.key().name))
    }
}

/// What the pod, or its container, uses; a pod of which a part was not measured was not.
fn sample(pod: &Pod, used: &PodUsage, resource: &str, container: &str) -> Option<Sample> {
    let mut value = 0_i64;
    let mut seen = false;
    for one in lasting(pod).filter(|one| container.is_empty() || one.name == container) {
        let usage = used.containers.get(&one.name)?;
        let milli = match resource {
            "cpu" => usage.cpu_nano.div_ceil(1_000_000),
            "memory" => usage.memory_bytes.saturating_mul(1_000),
            _ => return None,
        };
        value = value.saturating_add(i64::try_from(milli).unwrap_or(i64::MAX));
        seen = true;
    }
    let window = SignedDuration::from_millis(used.measured.window_ms as i64);
    seen.then_some(Sample { value, time: used.measured.time, window })
}
