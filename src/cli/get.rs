//! `holdfast get`: lists or shows objects, in the columns that the server chooses.

use std::io::Write;

use clap::{Args, ValueEnum};
use futures::StreamExt;
use serde_json::{Value, json};

use super::connection::{Client, ObjectScope};
use super::exit::{Exit, VerbError, finish};
use super::printer;
use crate::client::api::ApiError;
use crate::client::discovery::Served;
use crate::client::http::TABLE;

const JSON: &str = "application/json";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Wide,
    Json,
    Yaml,
    Name,
}

/// Shows objects of the cluster.
#[derive(Args, Debug)]
pub struct GetArgs {
    #[command(flatten)]
    pub scope: ObjectScope,
    /// KIND[,KIND…], KIND/NAME (also several), or `all`
    pub kinds: String,
    /// Names; all objects if none is given
    pub names: Vec<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Instead of the plain table
    #[arg(short, long, value_enum)]
    pub output: Option<Format>,
    /// Go on and show every change
    #[arg(short, long)]
    pub watch: bool,
    /// Only objects with these labels
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Only objects with these fields
    #[arg(long)]
    pub field_selector: Option<String>,
    /// With YAML and JSON: who owns which field, too
    #[arg(long)]
    pub show_managed_fields: bool,
}

/// Runs `holdfast get`.
pub async fn run(args: GetArgs) -> Exit {
    finish(get(args).await)
}

async fn get(args: GetArgs) -> Result<(), VerbError> {
    let client = args.scope.connect().await?;
    let targets = client.targets(&args.kinds, &args.names)?;
    if args.watch && targets.len() > 1 {
        return Err(VerbError::Usage("only one kind or object can be watched at once".into()));
    }
    let as_table = matches!(args.output, None | Some(Format::Wide));
    let mut documents = Vec::new();
    let mut rows = 0;
    // Where there are several kinds, each name says of which kind it is.
    let several = targets.iter().any(|(served, _)| *served != targets[0].0);
    let mut rest = targets.as_slice();
    while let Some((served, name)) = rest.first() {
        let same = rest.iter().take_while(|(other, _)| other == served).count();
        let mut answer = Value::Null;
        for (_, name) in &rest[..same] {
            let one = fetch(&client, &args, served, name.as_deref(), as_table).await?;
            if as_table { append(&mut answer, one) } else { documents.push(one) }
        }
        if as_table {
            if several {
                name_kinds(&mut answer, served);
            }
            let found = answer["rows"].as_array().map_or(0, Vec::len);
            if rows > 0 && found > 0 {
                writeln!(printer::stdout())?;
            }
            rows += print_table(&args, &answer, true)?;
        }
        if args.watch {
            let seen = if as_table { answer } else { documents[0].clone() };
            if !as_table {
                print_documents(&args, std::mem::take(&mut documents))?;
            }
            return watch(&client, &args, served, name.as_deref(), &seen, as_table).await;
        }
        rest = &rest[same..];
    }
    if as_table {
        if rows == 0 {
            let place = if args.all_namespaces {
                String::new()
            } else {
                format!(" in {} namespace", client.namespace)
            };
            printer::note(&format!("No resources found{place}."));
        }
        return Ok(());
    }
    print_documents(&args, documents)
}

/// Adds the rows of another Table of the same kind.
fn append(table: &mut Value, mut more: Value) {
    match (table["rows"].as_array_mut(), more["rows"].as_array_mut()) {
        (Some(rows), Some(more)) => rows.append(more),
        _ => *table = more,
    }
}

/// `web` to `deployment.apps/web` in the column that names the object.
fn name_kinds(table: &mut Value, served: &Served) {
    for row in table["rows"].as_array_mut().into_iter().flatten() {
        let cell = row["cells"].get_mut(0);
        if let Some(Value::String(name)) = cell {
            *name = served.display(name);
        }
    }
}

fn path(client: &Client, args: &GetArgs, served: &Served, name: Option<&str>) -> String {
    let namespace = (!args.all_namespaces).then_some(client.namespace.as_str());
    served.path(namespace, name)
}

async fn fetch(
    client: &Client,
    args: &GetArgs,
    served: &Served,
    name: Option<&str>,
    as_table: bool,
) -> Result<Value, VerbError> {
    let mut query = Vec::new();
    if name.is_none() {
        let selectors =
            [("labelSelector", &args.selector), ("fieldSelector", &args.field_selector)];
        query.extend(selectors.into_iter().filter_map(|(key, text)| Some((key, text.clone()?))));
    }
    let accept = if as_table { TABLE } else { JSON };
    Ok(client.api.get_raw(&path(client, args, served, name), &query, accept).await?)
}

async fn watch(
    client: &Client,
    args: &GetArgs,
    served: &Served,
    name: Option<&str>,
    seen: &Value,
    as_table: bool,
) -> Result<(), VerbError> {
    let version = seen["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let mut query = vec![("watch", "true".to_owned()), ("resourceVersion", version.to_owned())];
    let by_name = name.map(|name| format!("metadata.name={name}"));
    let fields = by_name.or_else(|| args.field_selector.clone());
    let selectors = [("labelSelector", args.selector.clone()), ("fieldSelector", fields)];
    query.extend(selectors.into_iter().filter_map(|(key, text)| Some((key, text?))));
    let accept = if as_table { TABLE } else { JSON };
    let mut lines = client.api.get_lines(&path(client, args, served, None), &query, accept).await?;
    while let Some(line) = lines.next().await {
        let event: Value = serde_json::from_str(&line?)
            .map_err(|error| ApiError::Garbled { reason: error.to_string() })?;
        match event["type"].as_str() {
            Some("BOOKMARK") => {}
            Some("ERROR") => {
                let message = event["object"]["message"].as_str().unwrap_or("the watch ended");
                return Err(VerbError::Failed(message.to_owned()));
            }
            _ if as_table => drop(print_table(args, &event["object"], false)?),
            _ => print_documents(args, vec![event["object"].clone()])?,
        }
    }
    Ok(())
}

fn print_documents(args: &GetArgs, mut documents: Vec<Value>) -> Result<(), VerbError> {
    let mut out = printer::stdout();
    if args.output == Some(Format::Name) {
        for document in &documents {
            let items = document["items"].as_array();
            let one = std::slice::from_ref(document);
            for item in items.map_or(one, Vec::as_slice) {
                let kind = item["kind"].as_str().map(str::to_lowercase);
                let kind = kind.or_else(|| {
                    let list = document["kind"].as_str()?.strip_suffix("List")?;
                    Some(list.to_lowercase())
                });
                let name = item["metadata"]["name"].as_str().unwrap_or_default();
                writeln!(out, "{}/{name}", kind.unwrap_or_default())?;
            }
        }
        return Ok(());
    }
    if !args.show_managed_fields {
        documents.iter_mut().for_each(hide_owners);
    }
    let document = if documents.len() == 1 {
        documents.remove(0)
    } else {
        let items = documents.into_iter().flat_map(|document| match document {
            Value::Object(mut list) if list.contains_key("items") => match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            },
            one => vec![one],
        });
        json!({"apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>()})
    };
    if args.output == Some(Format::Yaml) {
        write!(out, "{}", yaml(&document)?)?;
    } else {
        serde_json::to_writer_pretty(&mut out, &document).map_err(std::io::Error::from)?;
        writeln!(out)?;
    }
    Ok(())
}

/// Leaves out who owns which field: as long as the object, and seldom what was asked.
fn hide_owners(document: &mut Value) {
    if let Some(items) = document.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(hide_owners);
    }
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
}

/// A value as YAML.
pub(super) fn yaml(value: &Value) -> Result<String, VerbError> {
    serde_saphyr::to_string(value)
        .map_err(|error| VerbError::Failed(format!("cannot write YAML: {error}")))
}

/// Prints a server-side Table; answers how many rows there were.
fn print_table(args: &GetArgs, table: &Value, header: bool) -> Result<usize, VerbError> {
    let wide = args.output == Some(Format::Wide);
    let lines = table_lines(table, wide, args.all_namespaces, header);
    let rows = table["rows"].as_array().map_or(0, Vec::len);
    if rows > 0 {
        write!(printer::stdout(), "{lines}")?;
    }
    Ok(rows)
}

fn cell_text(cell: &Value) -> String {
    match cell {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".to_owned(),
        other => other.to_string(),
    }
}

/// The columns side by side, three spaces apart, as kubectl prints them.
fn table_lines(table: &Value, wide: bool, namespaces: bool, header: bool) -> String {
    let columns: Vec<&Value> =
        table["columnDefinitions"].as_array().into_iter().flatten().collect();
    let shown = |at: usize| {
        wide || columns
            .get(at)
            .is_none_or(|column| column["priority"] == 0 || column["priority"].is_null())
    };
    let mut lines: Vec<Vec<String>> = Vec::new();
    if header {
        let names = columns.iter().enumerate().filter(|(at, _)| shown(*at));
        let names = names.map(|(_, column)| column["name"].as_str().unwrap_or_default());
        let first = namespaces.then(|| "NAMESPACE".to_owned());
        lines.push(first.into_iter().chain(names.map(str::to_uppercase)).collect());
    }
    for row in table["rows"].as_array().into_iter().flatten() {
        let namespace = row.pointer("/object/metadata/namespace").and_then(Value::as_str);
        let first = namespaces.then(|| namespace.unwrap_or_default().to_owned());
        let cells = row["cells"].as_array().into_iter().flatten().enumerate();
        let cells = cells.filter(|(at, _)| shown(*at)).map(|(_, cell)| cell_text(cell));
        lines.push(first.into_iter().chain(cells).collect());
    }
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|at| {
            let cells = lines.iter().filter_map(|line| line.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_hidden_in_objects_and_lists() {
        let one = json!({"metadata": {"name": "a", "managedFields": [{}]}, "data": {}});
        let mut list = json!({"metadata": {}, "items": [one.clone(), one]});
        hide_owners(&mut list);
        let bare = json!({"metadata": {"name": "a"}, "data": {}});
        assert_eq!(list, json!({"metadata": {}, "items": [bare.clone(), bare]}));
    }

    #[test]
    fn tables_are_aligned_and_wide_columns_hidden() {
        let table = json!({
            "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "Ready", "priority": 0},
                {"name": "Node", "priority": 1}],
            "rows": [{"cells": ["web-1", "1/1", "a1"],
                "object": {"metadata": {"namespace": "shop"}}},
                {"cells": ["w", null, "b1"], "object": {"metadata": {"namespace": "s"}}}]});
        assert_eq!(
            table_lines(&table, false, false, true),
            "NAME    READY\nweb-1   1/1\nw       <none>\n"
        );
        assert_eq!(
            table_lines(&table, true, true, true).lines().next().unwrap(),
            "NAMESPACE   NAME    READY    NODE"
        );
    }
}
