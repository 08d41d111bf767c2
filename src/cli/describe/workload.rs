//! The pages of Deployments and ReplicaSets.

use serde_json::Value;

use super::sheet::Sheet;
use super::{annotations, controller, items, pairs, pod_spec, scalar, text, time};

const REVISION: &str = "deployment.kubernetes.io/revision";

pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// `app=web,tier in (a,b)`.
pub(super) fn selector(selector: &Value) -> String {
    let mut parts = pairs(&selector["matchLabels"], "=");
    for term in items(&selector["matchExpressions"]) {
        let (key, values) = (text(term, "/key"), items(&term["values"]).map(scalar));
        let values = values.collect::<Vec<_>>().join(",");
        parts.push(match text(term, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    if parts.is_empty() { "<none>".into() } else { parts.join(",") }
}

pub(super) fn template(sheet: &mut Sheet, spec: &Value) {
    let template = &spec["template"];
    sheet.heading(0, "Pod Template");
    sheet.many(1, "Labels", &pairs(&template["metadata"]["labels"], "="));
    if template["metadata"]["annotations"].is_object() {
        sheet.many(1, "Annotations", &annotations(template));
    }
    pod_spec::containers(sheet, 1, &template["spec"], &Value::Null);
    pod_spec::volumes(sheet, 1, &template["spec"]);
    pod_spec::placement(sheet, 1, &template["spec"]);
}

pub(super) fn conditions(sheet: &mut Sheet, object: &Value) {
    let rows: Vec<Vec<String>> = items(&object["status"]["conditions"])
        .map(|one| ["/type", "/status", "/reason"].map(|field| text(one, field).to_owned()).into())
        .collect();
    if !rows.is_empty() {
        sheet.heading(0, "Conditions");
        sheet.table(1, &["Type", "Status", "Reason"], &rows);
    }
}

fn owned_by<'v>(all: &'v [Value], owner: &'v Value) -> impl Iterator<Item = &'v Value> {
    let uid = owner["metadata"]["uid"].as_str();
    all.iter().filter(move |one| {
        uid.is_some()
            && items(&one["metadata"]["ownerReferences"]).any(|own| own["uid"].as_str() == uid)
    })
}

/// Writes a Deployment's page; `sets` are the ReplicaSets of its namespace.
pub(super) fn deployment(sheet: &mut Sheet, object: &Value, sets: &[Value]) {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    let status = |field: &str| number(object, &format!("/status/{field}"));
    sheet.field(0, "Name", text(object, "/metadata/name"));
    sheet.field(0, "Namespace", text(object, "/metadata/namespace"));
    sheet.field(0, "CreationTimestamp", time(&metadata["creationTimestamp"]));
    sheet.many(0, "Labels", &pairs(&metadata["labels"], "="));
    sheet.many(0, "Annotations", &annotations(object));
    sheet.field(0, "Selector", selector(&spec["selector"]));
    let replicas = format!(
        "{} desired | {} updated | {} total | {} available | {} unavailable",
        number(object, "/spec/replicas"),
        status("updatedReplicas"),
        status("replicas"),
        status("availableReplicas"),
        status("unavailableReplicas")
    );
    sheet.field(0, "Replicas", replicas);
    sheet.field(0, "StrategyType", text(spec, "/strategy/type"));
    sheet.field(0, "MinReadySeconds", number(spec, "/minReadySeconds"));
    let rolling = &spec["strategy"]["rollingUpdate"];
    if rolling.is_object() {
        let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
        let text = format!("{} max unavailable, {} max surge", scalar(unavailable), scalar(surge));
        sheet.field(0, "RollingUpdateStrategy", text);
    }
    template(sheet, &object["spec"]);
    conditions(sheet, object);
    let revision =
        |one: &Value| one["metadata"]["annotations"][REVISION].as_str().map(str::to_owned);
    let (new, old): (Vec<&Value>, Vec<&Value>) =
        owned_by(sets, object).partition(|set| revision(set) == revision(object));
    let named = |sets: &[&Value]| {
        let one = |set: &&Value| {
            let (made, wanted) = (number(set, "/status/replicas"), number(set, "/spec/replicas"));
            format!("{} ({made}/{wanted} replicas created)", text(set, "/metadata/name"))
        };
        if sets.is_empty() {
            "<none>".into()
        } else {
            sets.iter().map(one).collect::<Vec<_>>().join(", ")
        }
    };
    sheet.field(0, "OldReplicaSets", named(&old));
    sheet.field(0, "NewReplicaSet", named(&new));
}

/// Writes a ReplicaSet's page; `pods` are those of its namespace.
pub(super) fn replica_set(sheet: &mut Sheet, object: &Value, pods: &[Value]) {
    let metadata = &object["metadata"];
    sheet.field(0, "Name", text(object, "/metadata/name"));
    sheet.field(0, "Namespace", text(object, "/metadata/namespace"));
    sheet.field(0, "Selector", selector(&object["spec"]["selector"]));
    sheet.many(0, "Labels", &pairs(&metadata["labels"], "="));
    sheet.many(0, "Annotations", &annotations(object));
    sheet.some(0, "Controlled By", &controller(object).unwrap_or_default());
    let (made, wanted) = (number(object, "/status/replicas"), number(object, "/spec/replicas"));
    sheet.field(0, "Replicas", format!("{made} current / {wanted} desired"));
    sheet.field(0, "Pods Status", phases(object, pods));
    template(sheet, &object["spec"]);
    conditions(sheet, object);
}

/// How many of the owner's pods are in which phase.
pub(super) fn phases(owner: &Value, pods: &[Value]) -> String {
    let phase = |wanted: &str| {
        owned_by(pods, owner).filter(|pod| text(pod, "/status/phase") == wanted).count()
    };
    let counts = ["Running", "Waiting", "Succeeded", "Failed"]
        .map(|name| format!("{} {name}", phase(if name == "Waiting" { "Pending" } else { name })));
    counts.join(" / ")
}
