//! Answers: JSON bodies, refusals, lists, metadata-only forms.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::model::kinds::Kind;
use crate::model::status::Status;
use crate::objects::Listing;

/// A refusal on its way out.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Status);

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Refusal(status)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.0.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry = self.0.details.as_ref().and_then(|details| details.retry_after_seconds);
        // kubectl answers the header by asking ten times more before it says a word. A 503
        // of ours has already waited as long as waiting helps, so it says it in the body.
        let retry = retry.filter(|_| code != StatusCode::SERVICE_UNAVAILABLE);
        let mut response = json_response(code, &self.0);
        if let Some(seconds) = retry {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A body as JSON.
pub(super) fn json_response(code: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = code;
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
        Err(error) => {
            let mut response = Response::new(Body::from(error.to_string()));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

/// Adds what the server has to say about the request.
pub(super) fn warn(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        let text = format!("299 - \"{}\"", warning.replace('\\', "\\\\").replace('"', "\\\""));
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            response.headers_mut().append("warning", value);
        }
    }
}

/// The metadata of a list.
pub(super) fn list_meta(listing: &Listing) -> Value {
    let mut meta = Map::new();
    meta.insert("resourceVersion".into(), listing.revision.to_string().into());
    if let Some(token) = &listing.continue_token {
        meta.insert("continue".into(), token.as_str().into());
    }
    if let Some(remaining) = listing.remaining {
        meta.insert("remainingItemCount".into(), remaining.into());
    }
    Value::Object(meta)
}

/// A list of whole objects.
pub(super) fn list(kind: &Kind, listing: Listing) -> Value {
    json!({
        "kind": kind.list_kind(),
        "apiVersion": kind.api_version(),
        "metadata": list_meta(&listing),
        "items": listing.items,
    })
}

/// An object's metadata alone.
pub(super) fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// The metadata of all objects of a list.
pub(super) fn partial_list(listing: &Listing) -> Value {
    json!({
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta(listing),
        "items": listing.items.iter().map(partial).collect::<Vec<Value>>(),
    })
}
