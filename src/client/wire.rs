//! How the calls look on the wire: paths, queries, bodies, watch lines.
//!
//! Why apart from the connection: this half is pure and tested without a server.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::api::{
    ApiError, DeleteOptions, ListOptions, ObjectList, PatchKind, ResourceRef, WatchEvent,
};
use crate::model::status::Status;

/// The path of a collection or, with a name, of one object or its subresource.
pub(crate) fn path(
    resource: &ResourceRef,
    namespace: Option<&str>,
    name: Option<&str>,
    subresource: Option<&str>,
) -> String {
    let mut path = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    if let Some(namespace) = namespace.filter(|text| resource.namespaced && !text.is_empty()) {
        path.push_str("/namespaces/");
        path.push_str(namespace);
    }
    for part in [Some(resource.plural), name, subresource].into_iter().flatten() {
        path.push('/');
        path.push_str(part);
    }
    path
}

/// The query of a list or a watch.
pub(crate) fn query(options: &ListOptions) -> Vec<(&'static str, String)> {
    let texts = [
        ("labelSelector", &options.label_selector),
        ("fieldSelector", &options.field_selector),
        ("resourceVersion", &options.resource_version),
        ("continue", &options.continue_token),
    ];
    let mut query: Vec<_> =
        texts.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
    if let Some(limit) = options.limit {
        query.push(("limit", limit.to_string()));
    }
    query
}

pub(crate) fn delete_body(options: &DeleteOptions) -> Value {
    let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if let Some(seconds) = options.grace_period_seconds {
        body["gracePeriodSeconds"] = json!(seconds);
    }
    if let Some(policy) = &options.propagation_policy {
        body["propagationPolicy"] = json!(policy);
    }
    if let Some(uid) = &options.uid {
        body["preconditions"]["uid"] = json!(uid);
    }
    if let Some(version) = &options.resource_version {
        body["preconditions"]["resourceVersion"] = json!(version);
    }
    body
}

pub(crate) fn patch_content_type(kind: PatchKind) -> &'static str {
    match kind {
        PatchKind::Json => "application/json-patch+json",
        PatchKind::Merge => "application/merge-patch+json",
        PatchKind::Strategic => "application/strategic-merge-patch+json",
        PatchKind::Apply => "application/apply-patch+yaml",
    }
}

fn garbled(reason: impl std::fmt::Display) -> ApiError {
    ApiError::Garbled { reason: reason.to_string() }
}

/// The error that an unsuccessful answer stands for.
pub(crate) fn refusal(code: u16, body: &[u8]) -> ApiError {
    match serde_json::from_slice::<Status>(body) {
        Ok(status) if status.kind == "Status" => ApiError::Refused(status),
        _ => {
            let text = String::from_utf8_lossy(&body[..body.len().min(512)]);
            let message = format!("the server answered {code}: {}", text.trim());
            ApiError::Refused(Status::failure(code, "Unknown", message))
        }
    }
}

/// Splits a `…List` document.
pub(crate) fn parse_list(mut document: Value) -> Result<ObjectList, ApiError> {
    let items = match document.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        Some(Value::Null) | None => Vec::new(),
        Some(_) => return Err(garbled("items is not a list")),
    };
    let text = |field: &str| {
        let value = document.get("metadata").and_then(|metadata| metadata.get(field));
        value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    Ok(ObjectList {
        items,
        resource_version: text("resourceVersion").unwrap_or_default(),
        continue_token: text("continue"),
        remaining: document.pointer("/metadata/remainingItemCount").and_then(Value::as_i64),
    })
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

/// One line of a watch stream.
pub(crate) fn parse_watch_line(line: &str) -> Result<WatchEvent, ApiError> {
    let line: Line = serde_json::from_str(line).map_err(garbled)?;
    match line.kind.as_str() {
        "ADDED" => Ok(WatchEvent::Added(line.object)),
        "MODIFIED" => Ok(WatchEvent::Modified(line.object)),
        "DELETED" => Ok(WatchEvent::Deleted(line.object)),
        "BOOKMARK" => {
            let version = line.object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
            let version = version.ok_or_else(|| garbled("a bookmark without a version"))?;
            Ok(WatchEvent::Bookmark(version.to_owned()))
        }
        "ERROR" => serde_json::from_value(line.object).map(WatchEvent::Error).map_err(garbled),
        other => Err(garbled(format_args!("unknown watch event type {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};

    #[test]
    fn paths_follow_group_namespace_and_subresource() {
        let pods = ResourceRef::of::<Pod>(true);
        assert_eq!(path(&pods, None, None, None), "/api/v1/pods");
        assert_eq!(
            path(&pods, Some("shop"), Some("web"), Some("binding")),
            "/api/v1/namespaces/shop/pods/web/binding"
        );
        let deployments = ResourceRef::of::<Deployment>(true);
        assert_eq!(
            path(&deployments, Some("shop"), None, None),
            "/apis/apps/v1/namespaces/shop/deployments"
        );
    }

    #[test]
    fn watch_lines_become_events() {
        let bookmark = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}"#;
        assert!(matches!(parse_watch_line(bookmark), Ok(WatchEvent::Bookmark(v)) if v == "7"));
        let expired = serde_json::to_value(Status::expired("too old")).unwrap();
        let line = json!({"type": "ERROR", "object": expired}).to_string();
        assert!(matches!(parse_watch_line(&line), Ok(WatchEvent::Error(s)) if s.is_expired()));
        assert!(parse_watch_line("{").is_err());
    }

    #[test]
    fn a_refusal_without_status_keeps_code_and_text() {
        let ApiError::Refused(status) = refusal(502, b"bad gateway") else { panic!() };
        assert_eq!(status.code, 502);
        assert!(status.message.contains("bad gateway"));
    }
}
