//! What a pod and a pod template have in common: containers, volumes, placement.

use serde_json::Value;

use super::sheet::Sheet;
use super::{items, pairs, scalar, text, time};

/// Containers with, where there is a status, how they are.
pub(super) fn containers(sheet: &mut Sheet, level: usize, spec: &Value, status: &Value) {
    for (title, field, statuses) in [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
    ] {
        if items(&spec[field]).next().is_none() {
            continue;
        }
        sheet.heading(level, title);
        for container in items(&spec[field]) {
            let name = text(container, "/name");
            let own = items(&status[statuses]).find(|one| text(one, "/name") == name);
            sheet.heading(level + 1, name);
            one(sheet, level + 2, container, own);
        }
    }
}

fn one(sheet: &mut Sheet, level: usize, container: &Value, status: Option<&Value>) {
    if let Some(status) = status {
        sheet.field(level, "Container ID", text(status, "/containerID"));
    }
    sheet.field(level, "Image", text(container, "/image"));
    if let Some(status) = status {
        sheet.field(level, "Image ID", text(status, "/imageID"));
    }
    ports(sheet, level, container);
    for (title, field) in [("Command", "command"), ("Args", "args")] {
        if items(&container[field]).next().is_some() {
            sheet.heading(level, title);
            items(&container[field]).for_each(|word| sheet.plain(level + 1, &scalar(word)));
        }
    }
    if let Some(status) = status {
        state(sheet, level, "State", &status["state"]);
        if status["lastState"].as_object().is_some_and(|last| !last.is_empty()) {
            state(sheet, level, "Last State", &status["lastState"]);
        }
        let ready = if status["ready"] == true { "True" } else { "False" };
        sheet.field(level, "Ready", ready);
        sheet.field(level, "Restart Count", status["restartCount"].as_i64().unwrap_or_default());
    }
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let amounts = container["resources"][field].as_object();
        if let Some(amounts) = amounts.filter(|amounts| !amounts.is_empty()) {
            sheet.heading(level, title);
            amounts.iter().for_each(|(name, amount)| sheet.field(level + 1, name, scalar(amount)));
        }
    }
    for (title, field) in [
        ("Liveness", "livenessProbe"),
        ("Readiness", "readinessProbe"),
        ("Startup", "startupProbe"),
    ] {
        if container[field].is_object() {
            sheet.field(level, title, probe(&container[field]));
        }
    }
    environment(sheet, level, container);
    let mounts = items(&container["volumeMounts"]).map(|mount| {
        let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
        let sub = match text(mount, "/subPath") {
            "" => String::new(),
            path => format!(",path=\"{path}\""),
        };
        format!("{} from {} ({mode}{sub})", text(mount, "/mountPath"), text(mount, "/name"))
    });
    block(sheet, level, "Mounts", &mounts.collect::<Vec<_>>());
}

/// Lines below a heading, or `<none>` beside it.
fn block(sheet: &mut Sheet, level: usize, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return sheet.field(level, title, "<none>");
    }
    sheet.heading(level, title);
    lines.iter().for_each(|line| sheet.plain(level + 1, line));
}

fn ports(sheet: &mut Sheet, level: usize, container: &Value) {
    let list = |field: &str| {
        let one = |port: &Value| {
            format!("{}/{}", port[field].as_i64().unwrap_or_default(), text(port, "/protocol"))
        };
        items(&container["ports"]).map(one).collect::<Vec<_>>()
    };
    let (own, host) = (list("containerPort"), list("hostPort"));
    let plural = if own.len() > 1 { "s" } else { "" };
    let text = |list: Vec<String>| if list.is_empty() { "<none>".into() } else { list.join(", ") };
    sheet.field(level, &format!("Port{plural}"), text(own));
    sheet.field(level, &format!("Host Port{plural}"), text(host));
}

fn state(sheet: &mut Sheet, level: usize, title: &str, state: &Value) {
    let reason = |sheet: &mut Sheet, at: &Value| {
        sheet.some(level + 1, "Reason", text(at, "/reason"));
        sheet.some(level + 1, "Message", text(at, "/message"));
    };
    let (running, ended) = (&state["running"], &state["terminated"]);
    if running.is_object() {
        sheet.field(level, title, "Running");
        sheet.field(level + 1, "Started", time(&running["startedAt"]));
    } else if ended.is_object() {
        sheet.field(level, title, "Terminated");
        reason(sheet, ended);
        sheet.field(level + 1, "Exit Code", ended["exitCode"].as_i64().unwrap_or_default());
        if let Some(signal) = ended["signal"].as_i64().filter(|signal| *signal > 0) {
            sheet.field(level + 1, "Signal", signal);
        }
        sheet.field(level + 1, "Started", time(&ended["startedAt"]));
        sheet.field(level + 1, "Finished", time(&ended["finishedAt"]));
    } else {
        sheet.field(level, title, "Waiting");
        reason(sheet, &state["waiting"]);
    }
}

/// `http-get http://:8080/ready delay=0s timeout=1s period=10s #success=1 #failure=3`.
fn probe(probe: &Value) -> String {
    let number = |field: &str| probe[field].as_i64().unwrap_or_default();
    let (get, tcp) = (&probe["httpGet"], &probe["tcpSocket"]);
    let what = if get.is_object() {
        let scheme = text(get, "/scheme").to_lowercase();
        let (host, port) = (text(get, "/host"), scalar(&get["port"]));
        format!("http-get {scheme}://{host}:{port}{}", text(get, "/path"))
    } else if tcp.is_object() {
        format!("tcp-socket {}:{}", text(tcp, "/host"), scalar(&tcp["port"]))
    } else if probe["grpc"].is_object() {
        format!("grpc <pod>:{}", scalar(&probe["grpc"]["port"]))
    } else {
        let words = items(&probe["exec"]["command"]).map(scalar).collect::<Vec<_>>();
        format!("exec [{}]", words.join(" "))
    };
    format!(
        "{what} delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds"),
        number("timeoutSeconds"),
        number("periodSeconds"),
        number("successThreshold"),
        number("failureThreshold")
    )
}

fn environment(sheet: &mut Sheet, level: usize, container: &Value) {
    let from: Vec<String> = items(&container["envFrom"])
        .map(|source| {
            let kind = if source["secretRef"].is_object() { "Secret" } else { "ConfigMap" };
            let name =
                [text(source, "/configMapRef/name"), text(source, "/secretRef/name")].concat();
            let optional = source["configMapRef"]["optional"] == true;
            format!("{name}  {kind}  Optional: {optional}")
        })
        .collect();
    if !from.is_empty() {
        block(sheet, level, "Environment Variables from", &from);
    }
    if items(&container["env"]).next().is_none() {
        return sheet.field(level, "Environment", "<none>");
    }
    sheet.heading(level, "Environment");
    for variable in items(&container["env"]) {
        let source = &variable["valueFrom"];
        let value = if source["fieldRef"].is_object() {
            format!(
                "({}:{})",
                text(source, "/fieldRef/apiVersion"),
                text(source, "/fieldRef/fieldPath")
            )
        } else if source["configMapKeyRef"].is_object() {
            let (key, name) =
                (text(source, "/configMapKeyRef/key"), text(source, "/configMapKeyRef/name"));
            format!("<set to the key '{key}' of config map '{name}'>")
        } else if source["secretKeyRef"].is_object() {
            let (key, name) =
                (text(source, "/secretKeyRef/key"), text(source, "/secretKeyRef/name"));
            format!("<set to the key '{key}' in secret '{name}'>")
        } else if source["resourceFieldRef"].is_object() {
            format!("({})", text(source, "/resourceFieldRef/resource"))
        } else {
            text(variable, "/value").to_owned()
        };
        sheet.field(level + 1, text(variable, "/name"), value);
    }
}

/// The volumes of a pod, each with its kind and what that kind says.
pub(super) fn volumes(sheet: &mut Sheet, level: usize, spec: &Value) {
    if items(&spec["volumes"]).next().is_none() {
        return sheet.field(level, "Volumes", "<none>");
    }
    sheet.heading(level, "Volumes");
    for volume in items(&spec["volumes"]) {
        sheet.heading(level + 1, text(volume, "/name"));
        let sources = volume.as_object().into_iter().flatten();
        for (kind, source) in sources.filter(|(field, _)| *field != "name") {
            let kind = match kind.as_str() {
                "configMap" => "ConfigMap (a volume populated by a ConfigMap)",
                "emptyDir" => "EmptyDir (a temporary directory that shares a pod's lifetime)",
                "hostPath" => "HostPath (bare host directory volume)",
                "secret" => "Secret (a volume populated by a Secret)",
                other => other,
            };
            sheet.field(level + 2, "Type", kind);
            for (field, value) in source.as_object().into_iter().flatten() {
                if !value.is_object() && !value.is_array() {
                    let mut title = field.clone();
                    title[..1].make_ascii_uppercase();
                    sheet.field(level + 2, &title, scalar(value));
                }
            }
        }
    }
}

/// Where it may run.
pub(super) fn placement(sheet: &mut Sheet, level: usize, spec: &Value) {
    sheet.many(level, "Node-Selectors", &pairs(&spec["nodeSelector"], "="));
    let tolerations = items(&spec["tolerations"]).map(|one| {
        let mut text_of = text(one, "/key").to_owned();
        if !text(one, "/value").is_empty() {
            text_of.push_str(&format!("={}", text(one, "/value")));
        }
        if !text(one, "/effect").is_empty() {
            text_of.push_str(&format!(":{}", text(one, "/effect")));
        }
        if text(one, "/operator") == "Exists" {
            text_of.push_str(" op=Exists");
        }
        if let Some(seconds) = one["tolerationSeconds"].as_i64() {
            text_of.push_str(&format!(" for {seconds}s"));
        }
        text_of
    });
    sheet.many(level, "Tolerations", &tolerations.collect::<Vec<_>>());
}
