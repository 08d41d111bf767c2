//! A Pod's page.

use jiff::Timestamp;
use serde_json::Value;

use super::sheet::Sheet;
use super::{annotations, controller, items, pairs, pod_spec, text, time};
use crate::model::kinds::human_duration;

fn or<'t>(text: &'t str, absent: &'t str) -> &'t str {
    if text.is_empty() { absent } else { text }
}

/// Writes the page.
pub(super) fn describe(sheet: &mut Sheet, pod: &Value, now: Timestamp) {
    let (metadata, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    sheet.field(0, "Name", text(pod, "/metadata/name"));
    sheet.field(0, "Namespace", text(pod, "/metadata/namespace"));
    sheet.field(0, "Priority", spec["priority"].as_i64().unwrap_or_default());
    sheet.field(0, "Service Account", or(text(spec, "/serviceAccountName"), "default"));
    let node = match (text(spec, "/nodeName"), text(status, "/hostIP")) {
        ("", _) => "<none>".to_owned(),
        (node, "") => node.to_owned(),
        (node, address) => format!("{node}/{address}"),
    };
    sheet.field(0, "Node", node);
    if status["startTime"].is_string() {
        sheet.field(0, "Start Time", time(&status["startTime"]));
    }
    sheet.many(0, "Labels", &pairs(&metadata["labels"], "="));
    sheet.many(0, "Annotations", &annotations(pod));
    match text(metadata, "/deletionTimestamp").parse::<Timestamp>() {
        Ok(end) if end <= now => {
            let lasts = human_duration(now.as_second() - end.as_second());
            sheet.field(0, "Status", format!("Terminating (lasts {lasts})"));
        }
        Ok(end) => {
            let left = human_duration(end.as_second() - now.as_second());
            sheet.field(0, "Status", format!("Terminating (ends in {left})"));
        }
        Err(_) => sheet.field(0, "Status", text(status, "/phase")),
    }
    sheet.some(0, "Reason", text(status, "/reason"));
    sheet.some(0, "Message", text(status, "/message"));
    sheet.field(0, "IP", text(status, "/podIP"));
    if items(&status["podIPs"]).next().is_some() {
        sheet.heading(0, "IPs");
        items(&status["podIPs"]).for_each(|ip| sheet.field(1, "IP", text(ip, "/ip")));
    }
    sheet.some(0, "Controlled By", &controller(pod).unwrap_or_default());
    pod_spec::containers(sheet, 0, spec, status);
    let conditions: Vec<Vec<String>> = items(&status["conditions"])
        .map(|one| ["/type", "/status"].map(|field| text(one, field).to_owned()).into())
        .collect();
    if !conditions.is_empty() {
        sheet.heading(0, "Conditions");
        for row in [vec!["Type".to_owned(), "Status".to_owned()]].iter().chain(&conditions) {
            sheet.plain(1, format!("{:<28}{}", row[0], row[1]).trim_end());
        }
    }
    pod_spec::volumes(sheet, 0, spec);
    sheet.some(0, "QoS Class", text(status, "/qosClass"));
    pod_spec::placement(sheet, 0, spec);
}
