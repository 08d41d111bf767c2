//! OpenAPI, as much as clients need to know what the server can do.
//!
//! kubectl looks here whether `fieldValidation` and `dryRun` are understood before it
//! leaves validation to the server. Schemas (`kubectl explain`) are not served.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::respond::{Refusal, json_response};
use crate::model::kinds::{self, KINDS, Kind};
use crate::model::status::Status;

/// `GET /openapi/v2`: the frame of a Swagger document, with no schemas.
pub(super) async fn v2() -> Json<Value> {
    let mut paths = Map::new();
    for kind in KINDS {
        paths.insert(object_path(kind), object_operations(kind));
    }
    Json(json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.32.0"},
        "paths": paths,
        "definitions": {},
    }))
}

fn document_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// `GET /openapi/v3`: where each group and version is described.
pub(super) async fn v3_index() -> Json<Value> {
    let mut paths = Map::new();
    for (group, version) in kinds::group_versions() {
        let path = document_path(group, version);
        let url = format!("/openapi/v3/{path}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    Json(json!({"paths": paths}))
}

/// `GET /openapi/v3/api/v1` and the like.
pub(super) async fn v3(Path(rest): Path<String>) -> Response {
    let mut paths = Map::new();
    for kind in KINDS {
        if document_path(kind.group, kind.version) == rest {
            paths.insert(object_path(kind), object_operations(kind));
        }
    }
    if paths.is_empty() {
        return Refusal(Status::unknown_resource()).into_response();
    }
    let body = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.32.0"},
        "paths": paths,
        "components": {"schemas": {}},
    });
    json_response(StatusCode::OK, &body)
}

fn object_path(kind: &Kind) -> String {
    let root = document_path(kind.group, kind.version);
    if kind.namespaced {
        format!("/{root}/namespaces/{{namespace}}/{}/{{name}}", kind.plural)
    } else {
        format!("/{root}/{}/{{name}}", kind.plural)
    }
}

fn object_operations(kind: &Kind) -> Value {
    let text = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    json!({
        "patch": {
            "operationId": format!("patch{}", kind.kind),
            "parameters": [text("dryRun"), text("fieldManager"), text("fieldValidation")],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind":
                {"group": kind.group, "version": kind.version, "kind": kind.kind},
        },
    })
}
