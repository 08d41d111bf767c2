//! `holdfast apply -f`: creates what is missing and patches what differs.
//!
//! The patch is made here from the last applied manifest (client/applied.rs), as
//! kubectl's client-side apply does, but with plain merge patches: a list that differs
//! is replaced whole.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use serde_json::Value;

use super::connection::{Client, ObjectScope};
use super::exit::{Exit, VerbError, finish};
use super::printer;
use crate::client::api::ApiError;
use crate::client::applied;
use crate::client::discovery::Served;
use crate::sys::documents;

/// A field that the server does not know is a mistake, not a wish to ignore.
const STRICT: &str = "?fieldValidation=Strict";

/// Creates or changes objects as manifests say.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub scope: ObjectScope,
    /// Manifest files (YAML or JSON, many documents each) or directories of them; `-`
    /// reads standard input
    #[arg(short, long = "filename", required = true)]
    pub files: Vec<PathBuf>,
}

/// Runs `holdfast apply`.
pub async fn run(args: ApplyArgs) -> Exit {
    finish(apply(args).await)
}

/// All objects of the files, with `List`s taken apart. Everything is read and parsed
/// before anything is sent.
pub(super) fn manifests(files: &[PathBuf]) -> Result<Vec<Value>, VerbError> {
    let mut objects = Vec::new();
    let cannot_read = |file: &Path, error: std::io::Error| {
        VerbError::Usage(format!("cannot read {}: {error}", file.display()))
    };
    let mut all = Vec::new();
    for file in files {
        if file.is_dir() {
            let found = documents::manifests_in(file).map_err(|error| cannot_read(file, error))?;
            if found.is_empty() {
                return Err(VerbError::Usage(format!(
                    "{} holds no .yaml, .yml or .json file",
                    file.display()
                )));
            }
            all.extend(found);
        } else {
            all.push(file.clone());
        }
    }
    for file in &all {
        let text = if file == Path::new("-") {
            documents::read_stdin()
        } else {
            documents::read_text(file)
        };
        let text = text.map_err(|error| cannot_read(file, error))?;
        let parsed: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| {
            VerbError::Usage(format!("cannot parse {}: {error}", file.display()))
        })?;
        for document in parsed {
            flatten(document, &mut objects);
        }
    }
    if objects.is_empty() {
        return Err(VerbError::Usage("no objects given to work on".into()));
    }
    Ok(objects)
}

fn flatten(document: Value, objects: &mut Vec<Value>) {
    match document {
        Value::Null => {}
        Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
            if let Some(Value::Array(items)) = list.remove("items") {
                items.into_iter().for_each(|item| flatten(item, objects));
            }
        }
        object => objects.push(object),
    }
}

/// Where an object of a manifest belongs.
pub(super) struct Place<'a> {
    pub(super) served: &'a Served,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Place<'_> {
    pub(super) fn path(&self, named: bool) -> String {
        self.served.path(Some(&self.namespace), named.then_some(self.name.as_str()))
    }
}

pub(super) fn place<'a>(client: &'a Client, object: &Value) -> Result<Place<'a>, VerbError> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let (version, kind) = (text("/apiVersion"), text("/kind"));
    let (Some(version), Some(kind)) = (version, kind) else {
        return Err(VerbError::Usage("an object lacks apiVersion or kind".into()));
    };
    let Some(name) = text("/metadata/name") else {
        return Err(VerbError::Usage(format!("an object of kind {kind} lacks metadata.name")));
    };
    let served = client.catalogue.by_kind(version, kind).ok_or_else(|| {
        VerbError::Usage(format!("no matches for kind \"{kind}\" in version \"{version}\""))
    })?;
    let namespace = text("/metadata/namespace").unwrap_or(&client.namespace);
    Ok(Place { served, namespace: namespace.to_owned(), name: name.to_owned() })
}

async fn apply(args: ApplyArgs) -> Result<(), VerbError> {
    let objects = manifests(&args.files)?;
    let client = args.scope.connect().await?;
    let places: Result<Vec<_>, _> = objects.iter().map(|object| place(&client, object)).collect();
    let mut failures = 0;
    for (object, place) in objects.iter().zip(places?) {
        let shown = place.served.display(&place.name);
        match apply_one(&client, &place, object).await {
            Ok(verb) => writeln!(printer::stdout(), "{shown} {verb}")?,
            Err(error @ ApiError::Unreachable { .. }) => return Err(error.into()),
            Err(error) if objects.len() == 1 => return Err(error.into()),
            Err(error) => {
                failures += 1;
                printer::note(&format!("error: {shown}: {error}"));
            }
        }
    }
    if failures > 0 {
        return Err(VerbError::Failed(format!("{failures} of {} objects failed", objects.len())));
    }
    Ok(())
}

async fn apply_one(
    client: &Client,
    place: &Place<'_>,
    manifest: &Value,
) -> Result<&'static str, ApiError> {
    let json = "application/json";
    let mut manifest = manifest.clone();
    if place.served.namespaced {
        manifest["metadata"]["namespace"] = Value::String(place.namespace.clone());
    }
    let wanted = applied::annotated(&manifest);
    let path = place.path(true);
    let current = match client.api.get_raw(&path, &[], json).await {
        Ok(current) => current,
        Err(error) if error.is_not_found() => {
            let path = format!("{}{STRICT}", place.path(false));
            client.api.write_raw(Method::POST, &path, json, &wanted).await?;
            return Ok("created");
        }
        Err(error) => return Err(error),
    };
    let last = applied::last_applied(&current);
    let Some(patch) = applied::patch(last.as_ref(), &current, &wanted) else {
        return Ok("unchanged");
    };
    let merge = "application/merge-patch+json";
    let strict = format!("{path}{STRICT}");
    let after = client.api.write_raw(Method::PATCH, &strict, merge, &patch).await?;
    let version = |object: &Value| object.pointer("/metadata/resourceVersion").cloned();
    Ok(if version(&after) == version(&current) { "unchanged" } else { "configured" })
}
