//! `holdfast describe`: everything about an object, and what happened to it.

use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::connection::{Client, ObjectScope};
use super::exit::{Exit, VerbError, finish};
use super::get::yaml;
use super::printer;
use crate::client::discovery::Served;

const JSON: &str = "application/json";

/// Shows all there is to know about objects.
#[derive(Args, Debug)]
pub struct DescribeArgs {
    #[command(flatten)]
    pub scope: ObjectScope,
    /// KIND or KIND/NAME
    pub kind: String,
    /// Names; all objects if none is given
    pub names: Vec<String>,
}

/// Runs `holdfast describe`.
pub async fn run(args: DescribeArgs) -> Exit {
    finish(describe(args).await)
}

async fn describe(args: DescribeArgs) -> Result<(), VerbError> {
    let client = args.scope.connect().await?;
    let mut first = true;
    for (served, name) in client.targets(&args.kind, &args.names)? {
        let path = served.path(Some(&client.namespace), name.as_deref());
        let answer = client.api.get_raw(&path, &[], JSON).await?;
        let objects = match answer.get("items").and_then(Value::as_array) {
            Some(items) => items.clone(),
            None => vec![answer],
        };
        for object in objects {
            if !std::mem::take(&mut first) {
                writeln!(printer::stdout(), "\n")?;
            }
            describe_one(&client, served, &object).await?;
        }
    }
    Ok(())
}

async fn describe_one(client: &Client, served: &Served, object: &Value) -> Result<(), VerbError> {
    let events = events(client, object).await?;
    let mut out = printer::stdout();
    let metadata = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    writeln!(out, "{:<16}{}", "Name:", text(&metadata["name"]))?;
    if served.namespaced {
        writeln!(out, "{:<16}{}", "Namespace:", text(&metadata["namespace"]))?;
    }
    writeln!(out, "{:<16}{}", "Kind:", served.kind)?;
    for (title, field) in [("Labels:", "labels"), ("Annotations:", "annotations")] {
        let pairs = metadata[field].as_object().into_iter().flatten();
        let mut title = title;
        for (key, value) in pairs {
            writeln!(out, "{title:<16}{key}={}", text(value))?;
            title = "";
        }
        if !title.is_empty() {
            writeln!(out, "{title:<16}<none>")?;
        }
    }
    writeln!(out, "{:<16}{}", "Created:", text(&metadata["creationTimestamp"]))?;
    if let Some(deleted) = metadata["deletionTimestamp"].as_str() {
        writeln!(out, "{:<16}since {deleted}", "Terminating:")?;
    }
    for owner in metadata["ownerReferences"].as_array().into_iter().flatten() {
        writeln!(out, "{:<16}{}/{}", "Owned By:", text(&owner["kind"]), text(&owner["name"]))?;
    }
    for (key, value) in object.as_object().into_iter().flatten() {
        let empty = value.is_null() || value.as_object().is_some_and(|object| object.is_empty());
        if matches!(key.as_str(), "apiVersion" | "kind" | "metadata") || empty {
            continue;
        }
        let mut title = key.clone();
        title[..1].make_ascii_uppercase();
        writeln!(out, "{title}:")?;
        for line in yaml(value)?.lines() {
            writeln!(out, "  {line}")?;
        }
    }
    print_events(&mut out, events)
}

async fn events(client: &Client, object: &Value) -> Result<Vec<Value>, VerbError> {
    let metadata = &object["metadata"];
    let Some(uid) = metadata["uid"].as_str() else { return Ok(Vec::new()) };
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    let path = format!("/api/v1/namespaces/{namespace}/events");
    let query = [("fieldSelector", format!("involvedObject.uid={uid}"))];
    let mut answer = client.api.get_raw(&path, &query, JSON).await?;
    let Value::Array(mut events) = answer["items"].take() else { return Ok(Vec::new()) };
    events.sort_by_cached_key(|event| event["lastTimestamp"].as_str().map(str::to_owned));
    Ok(events)
}

fn print_events(out: &mut impl Write, events: Vec<Value>) -> Result<(), VerbError> {
    if events.is_empty() {
        writeln!(out, "{:<16}<none>", "Events:")?;
        return Ok(());
    }
    writeln!(out, "Events:")?;
    writeln!(out, "  {:<8} {:<20} {:<22} {:<24} Message", "Type", "Last", "Reason", "From")?;
    for event in events {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut last = text(&event["lastTimestamp"]);
        if let Some(count) = event["count"].as_i64().filter(|count| *count > 1) {
            last = format!("{last} (x{count})");
        }
        writeln!(
            out,
            "  {:<8} {last:<20} {:<22} {:<24} {}",
            text(&event["type"]),
            text(&event["reason"]),
            text(&event["source"]["component"]),
            text(&event["message"]),
        )?;
    }
    Ok(())
}
