//! `holdfast describe`: everything about an object, and what happened to it.
//!
//! In the words and the order of `kubectl describe`, because that is what people know;
//! kinds without a page of their own get all their fields (`generic`).

mod batch;
mod events;
mod generic;
mod limits;
mod network;
mod networking;
mod node;
mod pod;
mod pod_spec;
mod sets;
mod sheet;
mod workload;

use std::io::Write;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use self::sheet::Sheet;
use super::connection::{Client, ObjectScope};
use super::exit::{Exit, VerbError, finish};
use super::printer;
use crate::client::api::ApiError;
use crate::client::applied::LAST_APPLIED;
use crate::client::discovery::Served;
use crate::sys::clock;

const JSON: &str = "application/json";

/// Shows all there is to know about objects.
#[derive(Args, Debug)]
pub struct DescribeArgs {
    #[command(flatten)]
    pub scope: ObjectScope,
    /// KIND[,KIND…], or KIND/NAME, also several
    pub kind: String,
    /// Names; all objects if none is given
    pub names: Vec<String>,
    /// Only objects with these labels
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
}

/// Runs `holdfast describe`.
pub async fn run(args: DescribeArgs) -> Exit {
    finish(describe(args).await)
}

async fn describe(args: DescribeArgs) -> Result<(), VerbError> {
    let client = args.scope.connect().await?;
    let now = clock::now();
    let mut first = true;
    let mut found = 0;
    for (served, name) in client.targets(&args.kind, &args.names)? {
        let path = served.path(Some(&client.namespace), name.as_deref());
        let selector = args.selector.clone().filter(|_| name.is_none());
        let query = selector.map(|text| ("labelSelector", text));
        let answer = client.api.get_raw(&path, query.as_slice(), JSON).await?;
        let objects = match answer.get("items").and_then(Value::as_array) {
            Some(items) => items.clone(),
            None => vec![answer],
        };
        found += objects.len();
        for object in objects {
            let text = page(&client, served, &object, now).await?;
            if !std::mem::take(&mut first) {
                writeln!(printer::stdout(), "\n")?;
            }
            write!(printer::stdout(), "{text}")?;
        }
    }
    if found == 0 {
        printer::note(&format!("No resources found in {} namespace.", client.namespace));
    }
    Ok(())
}

async fn page(
    client: &Client,
    served: &Served,
    object: &Value,
    now: Timestamp,
) -> Result<String, VerbError> {
    let mut sheet = Sheet::default();
    match (served.group.as_str(), served.kind.as_str()) {
        ("", "Pod") => pod::describe(&mut sheet, object, now),
        ("", "Node") => {
            let lease = optional(client, &lease_path(object)).await?;
            let pods = list(client, "/api/v1/pods", &on_node(object)).await?;
            node::describe(&mut sheet, object, &lease, &pods, now);
        }
        ("", "Service") => {
            let path = format!("{}/endpointslices", of_group("discovery.k8s.io/v1", object));
            let slices = list(client, &path, &of_service(object)).await?;
            network::service(&mut sheet, object, &slices);
        }
        ("apps", "Deployment") => {
            let path = format!("{}/replicasets", of_group("apps/v1", object));
            let sets = list(client, &path, &[]).await?;
            workload::deployment(&mut sheet, object, &sets);
        }
        ("apps", "ReplicaSet") => {
            let pods = list(client, &pods_beside(object), &[]).await?;
            workload::replica_set(&mut sheet, object, &pods);
        }
        ("apps", "StatefulSet") => {
            let pods = list(client, &pods_beside(object), &[]).await?;
            sets::stateful_set(&mut sheet, object, &pods);
        }
        ("apps", "DaemonSet") => {
            let pods = list(client, &pods_beside(object), &[]).await?;
            sets::daemon_set(&mut sheet, object, &pods);
        }
        ("networking.k8s.io", "Ingress") => networking::ingress(&mut sheet, object),
        ("networking.k8s.io", "IngressClass") => networking::ingress_class(&mut sheet, object),
        ("networking.k8s.io", "NetworkPolicy") => networking::policy(&mut sheet, object),
        ("", "ResourceQuota") => limits::quota(&mut sheet, object),
        ("", "LimitRange") => limits::range(&mut sheet, object),
        ("batch", "Job") => batch::job(&mut sheet, object, now),
        ("batch", "CronJob") => batch::cron_job(&mut sheet, object),
        _ => generic::describe(&mut sheet, served, object),
    }
    if served.kind != "Event" {
        events::describe(&mut sheet, events_of(client, object).await?, now);
    }
    Ok(sheet.render())
}

/// The pods of the object's namespace.
fn pods_beside(object: &Value) -> String {
    format!("/api/v1/namespaces/{}/pods", text(object, "/metadata/namespace"))
}

fn of_group(group_version: &str, object: &Value) -> String {
    format!("/apis/{group_version}/namespaces/{}", text(object, "/metadata/namespace"))
}

fn lease_path(node: &Value) -> String {
    let name = text(node, "/metadata/name");
    format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}")
}

fn on_node(node: &Value) -> Vec<(&'static str, String)> {
    vec![("fieldSelector", format!("spec.nodeName={}", text(node, "/metadata/name")))]
}

fn of_service(service: &Value) -> Vec<(&'static str, String)> {
    let label = format!("kubernetes.io/service-name={}", text(service, "/metadata/name"));
    vec![("labelSelector", label)]
}

async fn list(
    client: &Client,
    path: &str,
    query: &[(&str, String)],
) -> Result<Vec<Value>, ApiError> {
    let mut answer = client.api.get_raw(path, query, JSON).await?;
    Ok(match answer["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    })
}

/// The object, or null where there is none.
async fn optional(client: &Client, path: &str) -> Result<Value, ApiError> {
    match client.api.get_raw(path, &[], JSON).await {
        Err(error) if error.is_not_found() => Ok(Value::Null),
        other => other,
    }
}

async fn events_of(client: &Client, object: &Value) -> Result<Vec<Value>, ApiError> {
    let metadata = &object["metadata"];
    // A node's events name it by its name alone, as the kubelet's do.
    let by = match metadata["uid"].as_str() {
        Some(uid) if object["kind"] != "Node" => format!("involvedObject.uid={uid}"),
        _ => format!(
            "involvedObject.kind={},involvedObject.name={}",
            text(object, "/kind"),
            text(object, "/metadata/name")
        ),
    };
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    let path = format!("/api/v1/namespaces/{namespace}/events");
    list(client, &path, &[("fieldSelector", by)]).await
}

/// The text at a JSON pointer; empty if there is none.
fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of a list; none if there is no list.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A scalar as people write it.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".into(),
        other => other.to_string(),
    }
}

/// `key=value` of each entry, in order of the keys.
fn pairs(map: &Value, between: &str) -> Vec<String> {
    let entries = map.as_object().into_iter().flatten();
    entries.map(|(key, value)| format!("{key}{between}{}", scalar(value))).collect()
}

/// A time as kubectl prints it; `<unset>` if there is none.
fn time(value: &Value) -> String {
    let parsed = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    parsed.map_or_else(
        || "<unset>".to_owned(),
        |time| time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string(),
    )
}

/// The last applied manifest says nothing that the object does not.
fn annotations(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["annotations"].as_object().into_iter().flatten();
    let shown = entries.filter(|(key, _)| *key != LAST_APPLIED);
    shown.map(|(key, value)| format!("{key}: {}", scalar(value))).collect()
}

/// The kind and name of the object that controls this one.
fn controller(object: &Value) -> Option<String> {
    let mut owners = items(&object["metadata"]["ownerReferences"]);
    let owner = owners.find(|owner| owner["controller"] == true)?;
    Some(format!("{}/{}", text(owner, "/kind"), text(owner, "/name")))
}

#[cfg(test)]
mod tests;
