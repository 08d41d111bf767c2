//! `holdfast logs`: what a pod's container said.

use std::io::Write;

use clap::Args;
use futures::StreamExt;

use super::connection::ObjectScope;
use super::exit::{Exit, VerbError, finish};
use super::printer;

/// Prints the log of a pod's container.
#[derive(Args, Debug)]
pub struct LogsArgs {
    #[command(flatten)]
    pub scope: ObjectScope,
    /// The pod, as NAME or pod/NAME
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

async fn logs(args: LogsArgs) -> Result<(), VerbError> {
    let client = args.scope.connect().await?;
    let name = match args.pod.split_once('/') {
        None => args.pod.as_str(),
        Some(("pod" | "pods" | "po", name)) => name,
        Some((kind, _)) => {
            return Err(VerbError::Usage(format!("logs are of pods, not of {kind}")));
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
    let path = client.resource("pods")?.path(Some(&client.namespace), Some(name));
    let mut chunks = client.api.get_stream(&format!("{path}/log"), &query, "*/*").await?;
    while let Some(chunk) = chunks.next().await {
        let mut out = printer::stdout();
        out.write_all(&chunk?)?;
        out.flush()?;
    }
    Ok(())
}
