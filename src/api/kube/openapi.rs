//! OpenAPI: what the server can do, and the schemas of all that is served.
//!
//! kubectl looks here whether `fieldValidation` and `dryRun` are understood before it
//! leaves validation to the server, for the words of `kubectl explain` and for the merge
//! keys of `kubectl apply`. For a kind that version 3 does not list it asks version 2, in
//! protobuf, and says "no matches for kind" once it has its answer: there the frame of the
//! document is enough.

mod schemas;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use self::schemas::Flavour;
use super::KubeState;
use super::discovery::Served;
use super::respond::{Refusal, json_response};
use crate::model::kinds::Kind;
use crate::model::status::Status;

const TITLE: &str = "Kubernetes";
const VERSION: &str = "v1.32.0";
/// What a client that wants protobuf says in `Accept`, with either of two separators.
const PROTOBUF_ASKED: &str = "com.github.proto-openapi.spec.v2";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// `GET /openapi/v2`: a Swagger document; in protobuf only its frame.
pub(super) async fn v2(State(state): State<KubeState>, headers: HeaderMap) -> Response {
    let asked = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if asked.contains(PROTOBUF_ASKED) {
        let mut response = Response::new(Body::from(v2_protobuf()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        return response;
    }
    let served = served(&state).await;
    let mut paths = Map::new();
    for kind in served.kinds() {
        paths.insert(object_path(kind), object_operations(kind));
    }
    Json(json!({
        "swagger": "2.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": paths,
        "definitions": schemas::of(served.kinds(), Flavour::V2),
    }))
    .into_response()
}

/// A field of protobuf's wire type 2: text, bytes or a message, at most 127 bytes long.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    debug_assert!(content.len() < 128, "longer ones need a length of several bytes");
    let head = [number << 3 | 2, u8::try_from(content.len()).unwrap_or_default()];
    [&head, content].concat()
}

/// The same frame as an `openapi.v2.Document` (gnostic's `OpenAPIv2.proto`): its version
/// and `Info`. It lists no paths: who knows version 3 reads them there.
fn v2_protobuf() -> Vec<u8> {
    let info = [field(1, TITLE.as_bytes()), field(2, VERSION.as_bytes())].concat();
    [field(1, b"2.0"), field(2, &info), field(8, &[])].concat()
}

async fn served(state: &KubeState) -> Served {
    state.objects.freshen_kinds().await;
    Served::of(state.objects.kinds())
}

fn document_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// `GET /openapi/v3`: where each group and version is described.
pub(super) async fn v3_index(State(state): State<KubeState>) -> Json<Value> {
    let mut paths = Map::new();
    for (group, version) in served(&state).await.group_versions() {
        let path = document_path(group, version);
        let url = format!("/openapi/v3/{path}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    Json(json!({"paths": paths}))
}

/// `GET /openapi/v3/api/v1` and the like.
pub(super) async fn v3(State(state): State<KubeState>, Path(rest): Path<String>) -> Response {
    let served = served(&state).await;
    let own = served.kinds().filter(|kind| document_path(kind.group, kind.version) == rest);
    let own: Vec<&'static Kind> = own.collect();
    let paths: Map<String, Value> =
        own.iter().map(|kind| (object_path(kind), object_operations(kind))).collect();
    if paths.is_empty() {
        return Refusal(Status::unknown_resource()).into_response();
    }
    let body = json!({
        "openapi": "3.0.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas::of(own.into_iter(), Flavour::V3)},
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
            "parameters": [text("dryRun"), text("fieldManager"), text("fieldValidation"), text("force")],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind":
                {"group": kind.group, "version": kind.version, "kind": kind.kind},
        },
    })
}
