//! A Service's page.

use serde_json::Value;

use super::sheet::Sheet;
use super::{annotations, items, pairs, scalar, text};

fn joined(values: Vec<String>) -> String {
    if values.is_empty() { "<none>".into() } else { values.join(",") }
}

/// `http  80/TCP`.
fn port(port: &Value) -> String {
    let name = match text(port, "/name") {
        "" => "<unset>",
        name => name,
    };
    format!("{name}  {}/{}", port["port"], text(port, "/protocol"))
}

/// Addresses of ready endpoints behind the Service's port.
fn endpoints(slices: &[Value], port: &Value) -> Vec<String> {
    let name = text(port, "/name");
    let mut found = Vec::new();
    for slice in slices {
        let mut ports = items(&slice["ports"]);
        let Some(target) = ports.find(|one| text(one, "/name") == name) else { continue };
        let ready = items(&slice["endpoints"]).filter(|one| one["conditions"]["ready"] != false);
        for address in ready.flat_map(|endpoint| items(&endpoint["addresses"])) {
            found.push(format!("{}:{}", scalar(address), target["port"]));
        }
    }
    found.sort();
    found
}

/// Writes the page.
pub(super) fn service(sheet: &mut Sheet, object: &Value, slices: &[Value]) {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    let list = |field: &str| joined(items(&spec[field]).map(scalar).collect());
    sheet.field(0, "Name", text(object, "/metadata/name"));
    sheet.field(0, "Namespace", text(object, "/metadata/namespace"));
    sheet.many(0, "Labels", &pairs(&metadata["labels"], "="));
    sheet.many(0, "Annotations", &annotations(object));
    sheet.field(0, "Selector", joined(pairs(&spec["selector"], "=")));
    sheet.field(0, "Type", text(spec, "/type"));
    sheet.field(0, "IP Family Policy", text(spec, "/ipFamilyPolicy"));
    sheet.field(0, "IP Families", list("ipFamilies"));
    sheet.field(0, "IP", text(spec, "/clusterIP"));
    sheet.field(0, "IPs", list("clusterIPs"));
    sheet.some(
        0,
        "External IPs",
        &items(&spec["externalIPs"]).map(scalar).collect::<Vec<_>>().join(","),
    );
    sheet.some(0, "Desired LoadBalancer IP", text(spec, "/loadBalancerIP"));
    let points = items(&object["status"]["loadBalancer"]["ingress"]);
    let points: Vec<String> = points
        .map(|point| match text(point, "/ipMode") {
            "" => text(point, "/ip").to_owned(),
            mode => format!("{} ({mode})", text(point, "/ip")),
        })
        .collect();
    sheet.some(0, "LoadBalancer Ingress", &points.join(", "));
    for one in items(&spec["ports"]) {
        sheet.field(0, "Port", port(one));
        sheet.field(
            0,
            "TargetPort",
            format!("{}/{}", scalar(&one["targetPort"]), text(one, "/protocol")),
        );
        if one["nodePort"].is_number() {
            let name = port(one).split("  ").next().unwrap_or_default().to_owned();
            sheet.field(
                0,
                "NodePort",
                format!("{name}  {}/{}", one["nodePort"], text(one, "/protocol")),
            );
        }
        sheet.field(0, "Endpoints", joined(endpoints(slices, one)));
    }
    sheet.field(0, "Session Affinity", text(spec, "/sessionAffinity"));
    sheet.some(0, "External Traffic Policy", text(spec, "/externalTrafficPolicy"));
    if spec["healthCheckNodePort"].is_number() {
        sheet.field(0, "HealthCheck NodePort", &spec["healthCheckNodePort"]);
    }
    sheet.some(0, "Internal Traffic Policy", text(spec, "/internalTrafficPolicy"));
    let ranges: Vec<String> = items(&spec["loadBalancerSourceRanges"]).map(scalar).collect();
    sheet.some(0, "LoadBalancer Source Ranges", &ranges.join(","));
    sheet.some(0, "Traffic Distribution", text(spec, "/trafficDistribution"));
}
