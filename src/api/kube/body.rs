//! Request bodies: JSON, YAML or Kubernetes' protobuf, all to JSON values.

use axum::body::Body;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::{json_fields, protobuf};
use crate::base::limits::API_BODY_MAX_BYTES;
use crate::model::status::Status;
use crate::objects::{DeleteRequest, Patch, PatchType, Propagation};

const APPLY: &str = "application/apply-patch+yaml";

fn content_type(headers: &HeaderMap) -> &str {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

fn unsupported(accepted: &str) -> Status {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    );
    Status::failure(415, "UnsupportedMediaType", message)
}

async fn bytes(body: Body) -> Result<bytes::Bytes, Status> {
    axum::body::to_bytes(body, API_BODY_MAX_BYTES).await.map_err(|_| {
        let message = format!("Request entity too large: limit is {API_BODY_MAX_BYTES}");
        Status::failure(413, "RequestEntityTooLarge", message)
    })
}

fn from_json(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes).map_err(|error| not_json(&error))
}

fn not_json(error: &serde_json::Error) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type object): couldn't get version/kind; json parse error: {error}"
    ))
}

fn from_yaml(bytes: &[u8]) -> Result<Value, Status> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Status::bad_request("the body of the request is not UTF-8"))?;
    serde_saphyr::from_str(text)
        .map_err(|error| Status::bad_request(format!("yaml: cannot be read: {error}")))
}

/// The object in a body; `Null` for an empty one.
pub(super) async fn object(headers: &HeaderMap, body: Body) -> Result<Value, Status> {
    object_and_doubled(headers, body).await.map(|(object, _)| object)
}

/// The object, and the paths of fields that stand in it twice. YAML has none: there a
/// second one is an error.
pub(super) async fn object_and_doubled(
    headers: &HeaderMap,
    body: Body,
) -> Result<(Value, Vec<String>), Status> {
    let bytes = bytes(body).await?;
    if bytes.is_empty() {
        return Ok((Value::Null, Vec::new()));
    }
    let once = |object: Value| (object, Vec::new());
    match content_type(headers) {
        "" | "application/json" => json_fields::read(&bytes).map_err(|error| not_json(&error)),
        "application/yaml" => from_yaml(&bytes).map(once),
        protobuf::MEDIA_TYPE => protobuf::decode(&bytes).map(once),
        _ => Err(unsupported(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// What the body of a PATCH asks for.
#[derive(Debug)]
pub(super) enum PatchBody {
    Patch(Patch),
    /// Server-side apply.
    Apply(Value),
}

/// The patch in a body.
pub(super) async fn patch(headers: &HeaderMap, body: Body) -> Result<PatchBody, Status> {
    let kind = match content_type(headers) {
        APPLY => {
            let config = from_yaml(&bytes(body).await?)?;
            return Ok(PatchBody::Apply(config));
        }
        "application/json-patch+json" => PatchType::Json,
        "application/merge-patch+json" => PatchType::Merge,
        "application/strategic-merge-patch+json" => PatchType::Strategic,
        _ => {
            return Err(unsupported(
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
            ));
        }
    };
    // YAML is a superset of JSON, and Kubernetes takes either in a patch.
    let bytes = bytes(body).await?;
    let body = from_json(&bytes).or_else(|error| from_yaml(&bytes).map_err(|_| error))?;
    Ok(PatchBody::Patch(Patch { kind, body }))
}

/// `DeleteOptions` from a body and the query; the body has the last word.
pub(super) fn delete_request(
    body: &Value,
    options: &super::options::Options,
) -> Result<DeleteRequest, Status> {
    let grace = match body.get("gracePeriodSeconds").and_then(Value::as_i64) {
        Some(seconds) => Some(seconds),
        None => options.number("gracePeriodSeconds")?,
    };
    let policy = body
        .get("propagationPolicy")
        .and_then(Value::as_str)
        .or_else(|| options.get("propagationPolicy"));
    let orphan = body.get("orphanDependents").and_then(Value::as_bool);
    let propagation = match policy {
        None | Some("") if orphan == Some(true) => Propagation::Orphan,
        None | Some("" | "Background") => Propagation::Background,
        Some("Foreground") => Propagation::Foreground,
        Some("Orphan") => Propagation::Orphan,
        Some(other) => {
            return Err(Status::bad_request(format!(
                "propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
            )));
        }
    };
    let condition = |field: &str| {
        let value = body.get("preconditions").and_then(|conditions| conditions.get(field));
        value.and_then(Value::as_str).map(str::to_owned)
    };
    let in_body = body.get("dryRun").and_then(Value::as_array);
    let dry_run =
        options.dry_run()? || in_body.is_some_and(|list| list.iter().any(|stage| stage == "All"));
    Ok(DeleteRequest {
        grace_period_seconds: grace,
        propagation,
        uid: condition("uid"),
        resource_version: condition("resourceVersion"),
        dry_run,
        ..DeleteRequest::default()
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::header::CONTENT_TYPE;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{APPLY, PatchBody, object, patch};
    use crate::model::status::Status;

    const MANIFEST: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: &n c, labels: {a: *n}}, data: {k: \"v\"}}";

    fn headers(media: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))])
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn read(media: &'static str, bytes: &[u8]) -> Result<Value, Status> {
        run(object(&headers(media), Body::from(bytes.to_vec())))
    }

    fn read_patch(media: &'static str, bytes: &[u8]) -> Result<PatchBody, Status> {
        run(patch(&headers(media), Body::from(bytes.to_vec())))
    }

    const BODIES: &[&str] =
        &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
    const PATCHES: &[&str] = &[
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        APPLY,
    ];

    fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
        for media in BODIES {
            if let Err(status) = read(media, bytes) {
                prop_assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
                prop_assert!(!status.message.is_empty());
            }
        }
        for media in PATCHES {
            if let Err(status) = read_patch(media, bytes) {
                prop_assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            check(&bytes)?;
            check(&[b"k8s\0", bytes.as_slice()].concat())?;
        }

        #[test]
        fn a_manifest_with_wrong_bytes_is_read_or_refused(
            places in prop::collection::vec((0_usize..MANIFEST.len(), any::<u8>()), 0..4),
            end in 0..=MANIFEST.len(),
        ) {
            let mut bytes = MANIFEST.as_bytes().to_vec();
            for (place, byte) in places {
                bytes[place] = byte;
            }
            check(&bytes[..end])?;
        }
    }

    #[test]
    fn deep_and_doubled_documents_are_refused() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
            for media in ["application/json", "application/yaml"] {
                assert_eq!(read(media, deep.as_bytes()).unwrap_err().code, 400, "{media}");
            }
        }
        let twice = b"a: 1\na: 2\n";
        assert_eq!(read_patch(APPLY, twice).unwrap_err().code, 400);
        // A short text that would fill the memory when its references are followed.
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let inner = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        assert_eq!(read("application/yaml", bomb.as_bytes()).unwrap_err().code, 400);
    }

    #[test]
    fn other_encodings_are_named_as_such() {
        assert_eq!(read("application/cbor", b"x").unwrap_err().code, 415);
        let status = read_patch("application/apply-patch+cbor", b"x").unwrap_err();
        assert_eq!(status.code, 415);
        assert!(status.message.contains(APPLY), "{}", status.message);
    }
}
