//! Watches over HTTP: one JSON document a line, in chunks as changes come.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::accept::Shape;
use super::table::{self, Include};
use super::{KubeState, respond};
use crate::model::kinds::Kind;
use crate::model::status::Status;
use crate::objects::{Change, Version, WatchRequest};
use crate::sys::fresh;

/// Watches end after this long at least where the client does not say, seconds; the
/// spread keeps watchers from coming back all at once.
const DEFAULT_SECONDS: u64 = 1_800;

/// Turns changes into lines.
struct Writer {
    kind: &'static Kind,
    shape: Shape,
    include: Include,
    /// The first Table of a watch describes its columns; the others do not.
    first: bool,
}

impl Writer {
    /// The object's text in the shape that was asked for.
    fn shaped(&mut self, object: &Version) -> Bytes {
        let shaped = match self.shape {
            Shape::Object => return object.json(),
            Shape::Partial => respond::partial(object),
            Shape::Table => {
                let meta = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let first = std::mem::take(&mut self.first);
                let object = Value::clone(object);
                table::of(self.kind, &[object], meta, self.include, first)
            }
        };
        Bytes::from(shaped.to_string())
    }

    fn bookmark(&mut self, revision: i64, initial_end: bool) -> Value {
        let mut meta = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self.shape {
            Shape::Table => table::of(self.kind, &[], meta, self.include, false),
            Shape::Partial => respond::partial(&json!({"metadata": meta})),
            Shape::Object => json!({
                "kind": self.kind.kind,
                "apiVersion": self.kind.api_version(),
                "metadata": meta,
            }),
        }
    }

    fn line(&mut self, change: Change) -> Bytes {
        let (name, object) = match change {
            Change::Added(object) => ("ADDED", self.shaped(&object)),
            Change::Modified(object) => ("MODIFIED", self.shaped(&object)),
            Change::Deleted(object) => ("DELETED", self.shaped(&object)),
            Change::Bookmark { revision, initial_end } => {
                ("BOOKMARK", Bytes::from(self.bookmark(revision, initial_end).to_string()))
            }
            Change::Error(status) => ("ERROR", Bytes::from(json!(status).to_string())),
        };
        let mut line = Vec::with_capacity(object.len() + 40);
        line.extend_from_slice(format!("{{\"type\":\"{name}\",\"object\":").as_bytes());
        line.extend_from_slice(&object);
        line.extend_from_slice(b"}\n");
        Bytes::from(line)
    }
}

/// Starts a watch; `timeout_seconds` is the client's, if any.
pub(super) async fn serve(
    state: &KubeState,
    request: &WatchRequest,
    shape: Shape,
    include: Include,
    timeout_seconds: Option<i64>,
) -> Result<Response, Status> {
    let changes = state.objects.watch(request).await?;
    let seconds = match timeout_seconds.and_then(|seconds| u64::try_from(seconds).ok()) {
        Some(seconds) if seconds > 0 => seconds,
        _ => DEFAULT_SECONDS + fresh::below(DEFAULT_SECONDS as usize) as u64,
    };
    let mut writer = Writer { kind: request.kind, shape, include, first: true };
    let lines = changes
        .take_until(Box::pin(tokio::time::sleep(Duration::from_secs(seconds))))
        .map(move |change| Ok::<_, std::convert::Infallible>(writer.line(change)));
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
