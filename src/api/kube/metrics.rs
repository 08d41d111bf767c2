//! `metrics.k8s.io`: what nodes and pods use, as metrics-server answers it.
//!
//! Nothing of it is stored: the objects are those of the cluster, the numbers are what the
//! nodes tell when asked. What was not measured is not there: a list leaves it out, and a
//! single one is not found.
//! Invariant: nobody sees numbers of a pod or node that he may not ask for by name
//! (the caller's rights were checked before).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::KubeState;
use super::options::Options;
use crate::client::usage::{Measured, Usage};
use crate::model::kinds::{self, Kind};
use crate::model::status::Status;
use crate::objects::{Address, Listing};
use crate::sys::clock;

/// The group that is answered here.
pub(super) const GROUP: &str = "metrics.k8s.io";

/// The kind whose objects are measured.
fn measured_kind(kind: &Kind) -> Result<&'static Kind, Status> {
    kinds::by_path("", "v1", kind.plural).ok_or_else(Status::unknown_resource)
}

/// All that the options select and that was measured.
pub(super) async fn list(
    state: &KubeState,
    kind: &Kind,
    namespace: Option<&str>,
    options: &Options,
) -> Result<Listing, Status> {
    let request = options.list(measured_kind(kind)?, namespace)?;
    let mut listing = state.objects.list(&request).await?;
    listing.items = measure(state, kind, &listing.items).await;
    Ok(listing)
}

/// One of them.
pub(super) async fn get(state: &KubeState, kind: &Kind, at: &Address) -> Result<Value, Status> {
    let own = Address { kind: measured_kind(kind)?, ..at.clone() };
    let absent = || {
        let name = match at.namespace.as_str() {
            "" => at.name.clone(),
            namespace => format!("{namespace}/{}", at.name),
        };
        Status::not_found(&kind.kind.to_lowercase(), GROUP, &name)
    };
    let object = match state.objects.get(&own, None).await {
        Err(status) if status.is_not_found() => return Err(absent()),
        found => found?,
    };
    measure(state, kind, &[object]).await.pop().ok_or_else(absent)
}

fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

async fn measure(state: &KubeState, kind: &Kind, objects: &[Value]) -> Vec<Value> {
    let is_node = kind.kind == "NodeMetrics";
    let place = if is_node { "/metadata/name" } else { "/spec/nodeName" };
    let nodes: BTreeSet<String> = objects
        .iter()
        .map(|object| text(object, place).to_owned())
        .filter(|node| !node.is_empty())
        .collect();
    let nodes: Vec<String> = nodes.into_iter().collect();
    let reports = state.usage.reports(&nodes).await;
    let one = |object: &Value| {
        let report = reports.get(text(object, place))?;
        if is_node {
            let node = report.node?;
            let mut answer = shell(kind, object, node.measured);
            answer["usage"] = quantities(node.usage);
            return Some(answer);
        }
        if text(object, "/status/phase") != "Running" {
            return None;
        }
        let uid = text(object, "/metadata/uid");
        let pod = report.pods.iter().find(|pod| pod.uid == uid)?;
        let mut answer = shell(kind, object, pod.measured);
        let containers = pod.containers.iter();
        answer["containers"] = containers
            .map(|(name, usage)| json!({"name": name, "usage": quantities(*usage)}))
            .collect();
        Some(answer)
    };
    objects.iter().filter_map(one).collect()
}

/// Everything but the numbers.
fn shell(kind: &Kind, object: &Value, measured: Measured) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "labels"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata.insert(field.into(), value.clone());
        }
    }
    let now = jiff::Timestamp::from_second(clock::now().as_second()).unwrap_or_default();
    metadata.insert("creationTimestamp".into(), now.to_string().into());
    let time = jiff::Timestamp::from_second(measured.time.as_second()).unwrap_or_default();
    json!({
        "kind": kind.kind,
        "apiVersion": kind.api_version(),
        "metadata": metadata,
        "timestamp": time.to_string(),
        "window": format!("{}s", measured.window_ms as f64 / 1_000.0),
    })
}

/// In metrics-server's units.
fn quantities(usage: Usage) -> Value {
    json!({
        "cpu": if usage.cpu_nano == 0 { "0".to_owned() } else { format!("{}n", usage.cpu_nano) },
        "memory": format!("{}Ki", usage.memory_bytes / 1024),
    })
}
