//! `holdfast logs`: what a pod's container said.

use std::io::Write;

use clap::Args;
use futures::StreamExt;
use serde_json::Value;

use super::connection::{Client, ObjectScope};
use super::exit::{Exit, VerbError, finish};
use super::printer;
use crate::client::discovery::Served;

const JSON: &str = "application/json";

/// Prints the log of a pod's container.
#[derive(Args, Debug)]
pub struct LogsArgs {
    #[command(flatten)]
    pub scope: ObjectScope,
    /// The pod, as NAME or pod/NAME; or deploy/NAME, rs/NAME, svc/NAME for one of its pods
    pub pod: String,
    /// The container; may be left out if there is only one
    #[arg(short, long)]
    pub container: Option<String>,
    /// Go on as more is said
    #[arg(short, long)]
    pub follow: bool,
    /// Only so many of the last lines
    #[arg(long)]
    pub tail: Option<u64>,
    /// Of the container's earlier run
    #[arg(short, long)]
    pub previous: bool,
    /// With the time of each line
    #[arg(long)]
    pub timestamps: bool,
}

/// Runs `holdfast logs`.
pub async fn run(args: LogsArgs) -> Exit {
    finish(logs(args).await)
}

/// A pod that the object selects: a running one if there is one.
async fn one_of(client: &Client, served: &Served, name: &str) -> Result<String, VerbError> {
    let path = served.path(Some(&client.namespace), Some(name));
    let object = client.api.get_raw(&path, &[], JSON).await?;
    let selector = &object["spec"]["selector"];
    let labels = selector.get("matchLabels").unwrap_or(selector).as_object();
    let labels = labels.filter(|labels| labels.values().all(Value::is_string));
    let Some(labels) = labels.filter(|labels| !labels.is_empty()) else {
        return Err(VerbError::Usage(format!(
            "{} selects no pods, and logs are of pods",
            served.display(name)
        )));
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let terms = labels.iter().map(|(key, value)| format!("{key}={}", text(value)));
    let query = [("labelSelector", terms.collect::<Vec<_>>().join(","))];
    let path = client.resource("pods")?.path(Some(&client.namespace), None);
    let answer = client.api.get_raw(&path, &query, JSON).await?;
    let pods = answer["items"].as_array().cloned().unwrap_or_default();
    let runs = |pod: &&Value| pod["status"]["phase"] == "Running";
    let Some(pod) = pods.iter().find(runs).or_else(|| pods.first()) else {
        return Err(VerbError::Failed(format!("{} has no pods", served.display(name))));
    };
    let chosen = text(&pod["metadata"]["name"]);
    if pods.len() > 1 {
        printer::note(&format!("Found {} pods, using pod/{chosen}", pods.len()));
    }
    Ok(chosen)
}

async fn logs(args: LogsArgs) -> Result<(), VerbError> {
    let client = args.scope.connect().await?;
    let name = match args.pod.split_once('/') {
        None => args.pod.clone(),
        Some((kind, name)) => {
            let served = client.resource(kind)?;
            if served.kind == "Pod" {
                name.to_owned()
            } else {
                one_of(&client, served, name).await?
            }
        }
    };
    let mut query = Vec::new();
    if let Some(container) = &args.container {
        query.push(("container", container.clone()));
    }
    if let Some(tail) = args.tail {
        query.push(("tailLines", tail.to_string()));
    }
    let switches =
        [("follow", args.follow), ("previous", args.previous), ("timestamps", args.timestamps)];
    query.extend(switches.into_iter().filter(|(_, on)| *on).map(|(key, _)| (key, "true".into())));
    let path = client.resource("pods")?.path(Some(&client.namespace), Some(&name));
    let mut chunks = client.api.get_stream(&format!("{path}/log"), &query, "*/*").await?;
    while let Some(chunk) = chunks.next().await {
        let mut out = printer::stdout();
        out.write_all(&chunk?)?;
        out.flush()?;
    }
    Ok(())
}
