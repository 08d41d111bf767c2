//! The pages of StatefulSets and DaemonSets.

use serde_json::Value;

use super::sheet::Sheet;
use super::workload::{conditions, number, phases, selector, template};
use super::{annotations, pairs, scalar, text, time};

fn head(sheet: &mut Sheet, object: &Value) {
    sheet.field(0, "Name", text(object, "/metadata/name"));
    sheet.field(0, "Namespace", text(object, "/metadata/namespace"));
}

/// Writes a StatefulSet's page; `pods` are those of its namespace.
pub(super) fn stateful_set(sheet: &mut Sheet, object: &Value, pods: &[Value]) {
    let spec = &object["spec"];
    head(sheet, object);
    sheet.field(0, "CreationTimestamp", time(&object["metadata"]["creationTimestamp"]));
    sheet.field(0, "Selector", selector(&spec["selector"]));
    sheet.many(0, "Labels", &pairs(&object["metadata"]["labels"], "="));
    sheet.many(0, "Annotations", &annotations(object));
    let (wanted, there) = (number(object, "/spec/replicas"), number(object, "/status/replicas"));
    sheet.field(0, "Replicas", format!("{wanted} desired | {there} total"));
    sheet.field(0, "Update Strategy", text(spec, "/updateStrategy/type"));
    let rolling = &spec["updateStrategy"]["rollingUpdate"];
    if rolling.is_object() {
        sheet.field(1, "Partition", number(rolling, "/partition"));
        if !rolling["maxUnavailable"].is_null() {
            sheet.field(1, "MaxUnavailable", scalar(&rolling["maxUnavailable"]));
        }
    }
    sheet.field(0, "Pods Status", phases(object, pods));
    template(sheet, spec);
    sheet.field(0, "Volume Claims", "<none>");
    conditions(sheet, object);
}

/// Writes a DaemonSet's page; `pods` are those of its namespace.
pub(super) fn daemon_set(sheet: &mut Sheet, object: &Value, pods: &[Value]) {
    let spec = &object["spec"];
    head(sheet, object);
    sheet.field(0, "Selector", selector(&spec["selector"]));
    let nodes = pairs(&spec["template"]["spec"]["nodeSelector"], "=").join(",");
    sheet.field(0, "Node-Selector", if nodes.is_empty() { "<none>" } else { &nodes });
    sheet.many(0, "Labels", &pairs(&object["metadata"]["labels"], "="));
    sheet.many(0, "Annotations", &annotations(object));
    for (name, field) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        sheet.field(0, name, number(object, &format!("/status/{field}")));
    }
    sheet.field(0, "Pods Status", phases(object, pods));
    template(sheet, spec);
    conditions(sheet, object);
}
