//! `holdfast delete`: asks for the end of objects and waits for it.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::apply::{manifests, place};
use super::connection::{Client, ObjectScope};
use super::exit::{Exit, VerbError, finish};
use super::printer;
use crate::client::api::ApiError;
use crate::client::discovery::Served;

const JSON: &str = "application/json";
/// How often the API is asked whether an object is gone.
const ASK_EVERY: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cascade {
    Background,
    Foreground,
    Orphan,
}

/// Deletes objects.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    #[command(flatten)]
    pub scope: ObjectScope,
    /// KIND or KIND/NAME
    #[arg(required_unless_present = "files")]
    pub kind: Option<String>,
    /// Names
    pub names: Vec<String>,
    /// Delete what these manifests name; `-` reads standard input
    #[arg(short, long = "filename", conflicts_with = "kind")]
    pub files: Vec<PathBuf>,
    /// All objects of the kind in the namespace
    #[arg(long)]
    pub all: bool,
    /// All objects of the kind in the namespace whose labels match
    #[arg(short = 'l', long, conflicts_with_all = ["all", "files", "names"])]
    pub selector: Option<String>,
    /// What becomes of the objects it owns
    #[arg(long, value_enum, default_value = "background")]
    pub cascade: Cascade,
    /// Seconds to end gracefully; 0 removes at once
    #[arg(long)]
    pub grace_period: Option<i64>,
    /// An object that is not there is no error
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Do not wait until the objects are gone
    #[arg(long)]
    pub no_wait: bool,
    /// Seconds to wait at most for all objects together
    #[arg(long, default_value_t = 300)]
    pub timeout: u64,
}

/// Runs `holdfast delete`.
pub async fn run(args: DeleteArgs) -> Exit {
    finish(delete(args).await)
}

struct Doomed {
    path: String,
    shown: String,
}

impl Doomed {
    fn new(served: &Served, namespace: &str, name: &str) -> Self {
        let shown = served.display(name);
        Self { path: served.path(Some(namespace), Some(name)), shown }
    }
}

async fn targets(args: &DeleteArgs, client: &Client) -> Result<Vec<Doomed>, VerbError> {
    let mut doomed = Vec::new();
    if !args.files.is_empty() {
        for object in manifests(&args.files)? {
            let place = place(client, &object)?;
            doomed.push(Doomed::new(place.served, &place.namespace, &place.name));
        }
        return Ok(doomed);
    }
    for (served, name) in client.targets(args.kind.as_deref().unwrap_or_default(), &args.names)? {
        match name {
            Some(name) => doomed.push(Doomed::new(served, &client.namespace, &name)),
            None if args.all || args.selector.is_some() => {
                let path = served.path(Some(&client.namespace), None);
                let selector = args.selector.clone().map(|text| ("labelSelector", text));
                let list = client.api.get_raw(&path, selector.as_slice(), JSON).await?;
                for item in list["items"].as_array().into_iter().flatten() {
                    let name = item["metadata"]["name"].as_str().unwrap_or_default();
                    doomed.push(Doomed::new(served, &client.namespace, name));
                }
            }
            None => {
                return Err(VerbError::Usage("give names, --selector or --all".into()));
            }
        }
    }
    Ok(doomed)
}

async fn delete(args: DeleteArgs) -> Result<(), VerbError> {
    let client = args.scope.connect().await?;
    let policy = match args.cascade {
        Cascade::Background => "Background",
        Cascade::Foreground => "Foreground",
        Cascade::Orphan => "Orphan",
    };
    let mut body =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
    if let Some(seconds) = args.grace_period {
        body["gracePeriodSeconds"] = json!(seconds);
    }
    let mut awaited = Vec::new();
    for doomed in targets(&args, &client).await? {
        let uid = match client.api.get_raw(&doomed.path, &[], JSON).await {
            Ok(object) => object["metadata"]["uid"].clone(),
            Err(error) if error.is_not_found() && args.ignore_not_found => continue,
            Err(error) => return Err(error.into()),
        };
        match client.api.write_raw(Method::DELETE, &doomed.path, JSON, &body).await {
            Ok(_) => writeln!(printer::stdout(), "{} deleted", doomed.shown)?,
            Err(error) if error.is_not_found() && args.ignore_not_found => continue,
            Err(error) => return Err(error.into()),
        }
        awaited.push((doomed, uid));
    }
    if args.no_wait {
        return Ok(());
    }
    let all_gone = await_all(&client, &awaited);
    match tokio::time::timeout(Duration::from_secs(args.timeout), all_gone).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(VerbError::Failed(format!(
            "not everything was gone after {} s; the deletion goes on",
            args.timeout
        ))),
    }
}

async fn await_all(client: &Client, awaited: &[(Doomed, Value)]) -> Result<(), ApiError> {
    let mut clock = tokio::time::interval(ASK_EVERY);
    for (doomed, uid) in awaited {
        loop {
            match client.api.get_raw(&doomed.path, &[], JSON).await {
                Ok(object) if object["metadata"]["uid"] != *uid => break,
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(error),
                Ok(_) => clock.tick().await,
            };
        }
    }
    Ok(())
}
