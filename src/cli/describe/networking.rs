//! The pages of Ingresses, their classes and network policies.

use serde_json::Value;

use super::sheet::Sheet;
use super::{annotations, items, pairs, scalar, text};

fn backend(backend: &Value) -> String {
    let service = &backend["service"];
    if !service.is_object() {
        let resource = &backend["resource"];
        return format!("{}/{}", text(resource, "/kind"), text(resource, "/name"));
    }
    let port = match text(service, "/port/name") {
        "" => scalar(&service["port"]["number"]),
        name => name.to_owned(),
    };
    format!("{}:{port}", text(service, "/name"))
}

fn or_any(host: &str) -> String {
    if host.is_empty() { "*".into() } else { host.into() }
}

/// Writes an Ingress's page.
pub(super) fn ingress(sheet: &mut Sheet, object: &Value) {
    let spec = &object["spec"];
    sheet.field(0, "Name", text(object, "/metadata/name"));
    sheet.many(0, "Labels", &pairs(&object["metadata"]["labels"], "="));
    sheet.field(0, "Namespace", text(object, "/metadata/namespace"));
    let points = items(&object["status"]["loadBalancer"]["ingress"]);
    let addresses: Vec<&str> = points.map(|point| text(point, "/ip")).collect();
    sheet.field(0, "Address", addresses.join(","));
    let class = text(spec, "/ingressClassName");
    sheet.field(0, "Ingress Class", if class.is_empty() { "<none>" } else { class });
    let default = &spec["defaultBackend"];
    let default = if default.is_object() { backend(default) } else { "<default>".into() };
    sheet.field(0, "Default backend", default);
    let secured: Vec<String> = items(&spec["tls"])
        .map(|tls| {
            let hosts: Vec<String> = items(&tls["hosts"]).map(scalar).collect();
            match text(tls, "/secretName") {
                "" => format!("SNI routes {}", hosts.join(",")),
                secret => format!("{secret} terminates {}", hosts.join(",")),
            }
        })
        .collect();
    if !secured.is_empty() {
        sheet.heading(0, "TLS");
        secured.iter().for_each(|line| sheet.plain(1, line));
    }
    sheet.heading(0, "Rules");
    let mut rows = Vec::new();
    for rule in items(&spec["rules"]) {
        let paths = items(&rule["http"]["paths"]);
        let mut host = or_any(text(rule, "/host"));
        for path in paths {
            let to = format!("{} ({})", text(path, "/path"), backend(&path["backend"]));
            rows.push(vec![std::mem::take(&mut host), to]);
        }
    }
    if rows.is_empty() {
        rows.push(vec!["*".into(), format!("* ({})", backend(&spec["defaultBackend"]))]);
    }
    sheet.table(1, &["Host", "Path and Backends"], &rows);
    sheet.many(0, "Annotations", &annotations(object));
}

/// Writes a class's page.
pub(super) fn ingress_class(sheet: &mut Sheet, object: &Value) {
    sheet.field(0, "Name", text(object, "/metadata/name"));
    sheet.many(0, "Labels", &pairs(&object["metadata"]["labels"], "="));
    sheet.many(0, "Annotations", &annotations(object));
    sheet.field(0, "Controller", text(object, "/spec/controller"));
}

fn selector(selector: &Value) -> String {
    let mut terms = pairs(&selector["matchLabels"], "=");
    for term in items(&selector["matchExpressions"]) {
        let values: Vec<String> = items(&term["values"]).map(scalar).collect();
        let (key, values) = (text(term, "/key"), values.join(","));
        terms.push(match text(term, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    if terms.is_empty() { "<none>".into() } else { terms.join(",") }
}

/// Writes a policy's page.
pub(super) fn policy(sheet: &mut Sheet, object: &Value) {
    let spec = &object["spec"];
    sheet.field(0, "Name", text(object, "/metadata/name"));
    sheet.field(0, "Namespace", text(object, "/metadata/namespace"));
    sheet.field(0, "Created on", text(object, "/metadata/creationTimestamp"));
    sheet.many(0, "Labels", &pairs(&object["metadata"]["labels"], "="));
    sheet.many(0, "Annotations", &annotations(object));
    sheet.heading(0, "Spec");
    let chosen = match selector(&spec["podSelector"]).as_str() {
        "<none>" => {
            "<none> (Allowing the specific traffic to all pods in this namespace)".to_owned()
        }
        chosen => chosen.to_owned(),
    };
    sheet.plain(1, &format!("PodSelector:     {chosen}"));
    let types: Vec<String> = items(&spec["policyTypes"]).map(scalar).collect();
    for (name, field, peers, word) in
        [("Ingress", "ingress", "from", "From"), ("Egress", "egress", "to", "To")]
    {
        if !types.iter().any(|one| one == name) {
            let lower = field;
            sheet.plain(1, &format!("Not affecting {lower} traffic"));
            continue;
        }
        sheet.plain(1, &format!("Allowing {field} traffic:"));
        rules(sheet, &spec[field], peers, word, field);
    }
    sheet.plain(1, &format!("Policy Types: {}", types.join(", ")));
}

fn rules(sheet: &mut Sheet, list: &Value, peers: &str, word: &str, direction: &str) {
    let mut any = false;
    for rule in items(list) {
        if std::mem::replace(&mut any, true) {
            sheet.plain(2, "----------");
        }
        let ports: Vec<String> = items(&rule["ports"]).map(port).collect();
        if ports.is_empty() {
            sheet.plain(2, "To Port: <any> (traffic allowed to all ports)");
        }
        ports.iter().for_each(|port| sheet.plain(2, &format!("To Port: {port}")));
        let mut named = false;
        for peer in items(&rule[peers]) {
            named = true;
            sheet.plain(2, &format!("{word}:"));
            if peer["ipBlock"].is_object() {
                sheet.plain(3, "IPBlock:");
                sheet.plain(4, &format!("CIDR: {}", text(peer, "/ipBlock/cidr")));
                let except: Vec<String> = items(&peer["ipBlock"]["except"]).map(scalar).collect();
                sheet.plain(4, &format!("Except: {}", except.join(", ")));
                continue;
            }
            for (field, name) in
                [("namespaceSelector", "NamespaceSelector"), ("podSelector", "PodSelector")]
            {
                if peer[field].is_object() {
                    sheet.plain(3, &format!("{name}: {}", selector(&peer[field])));
                }
            }
        }
        if !named {
            let whom = if direction == "ingress" { "sources" } else { "destinations" };
            sheet.plain(2, &format!("{word}: <any> (traffic not restricted by {whom})"));
        }
    }
    if !any {
        let text = format!("<none> (Selected pods are isolated for {direction} connectivity)");
        sheet.plain(2, &text);
    }
}

fn port(port: &Value) -> String {
    let number = match &port["port"] {
        Value::Null => "<any>".to_owned(),
        given => scalar(given),
    };
    let end =
        if port["endPort"].is_number() { format!("-{}", port["endPort"]) } else { String::new() };
    format!("{number}{end}/{}", text(port, "/protocol"))
}
