//! Objects as rows: what `kubectl get` asks for.

use serde_json::{Value, json};

use super::respond;
use crate::model::kinds::Kind;
use crate::sys::clock;

/// How much of each object goes along with its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    pub(super) fn parse(text: Option<&str>) -> Self {
        match text {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        }
    }
}

fn columns(kind: &Kind) -> Vec<Value> {
    let definition = |column: &crate::model::kinds::Column| {
        json!({
            "name": column.name,
            "type": column.data_type,
            "format": column.format,
            "description": "",
            "priority": column.priority,
        })
    };
    match kind.custom() {
        Some(custom) => custom.column_definitions(),
        None => kind.columns.iter().map(definition).collect(),
    }
}

fn row(kind: &Kind, object: &Value, include: Include) -> Value {
    let now = clock::now();
    let cells: Vec<Value> = match kind.custom() {
        Some(custom) => custom.cells(object, now),
        None => kind.columns.iter().map(|column| (column.cell)(object, now)).collect(),
    };
    let object = match include {
        Include::None => Value::Null,
        Include::Metadata => respond::partial(object),
        Include::Object => object.clone(),
    };
    json!({"cells": cells, "object": object})
}

/// A Table of objects; `with_columns` is false for all but the first of a watch.
pub(super) fn of(
    kind: &Kind,
    objects: &[Value],
    metadata: Value,
    include: Include,
    with_columns: bool,
) -> Value {
    let columns = if with_columns { columns(kind) } else { Vec::new() };
    let rows: Vec<Value> = objects.iter().map(|object| row(kind, object, include)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}
