//! Answers and refusals in the protocol's shape.
//!
//! Source: distribution-spec 1.1, "Error Codes". Internal failures say to the client
//! only that they happened; the log says why.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::base::chain::chain;
use crate::registry::RegistryError;
use crate::store::StoreError;

const VERSION: (HeaderName, HeaderValue) = (
    HeaderName::from_static("docker-distribution-api-version"),
    HeaderValue::from_static("registry/2.0"),
);

/// Why a request is not served.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    range: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), range: None }
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required")
    }

    pub(super) fn denied() -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", "requested access to the resource is denied")
    }

    pub(super) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the operation is unsupported")
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "there is nothing at this address")
    }

    pub(super) fn into_response(self) -> Response {
        let body = json!({"errors": [{"code": self.code, "message": self.message}]});
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            let ask = HeaderValue::from_static("Basic realm=\"holdfast\"");
            headers.insert(header::WWW_AUTHENTICATE, ask);
        }
        if let Some(at) = self.range {
            headers.insert(header::RANGE, range_of(at));
        }
        versioned(response)
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        use RegistryError as E;
        let (status, code) = match &error {
            E::NameInvalid { .. } => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            E::TagInvalid { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            E::ImageInvalid { .. } => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            E::DigestInvalid { .. } | E::DigestMismatch { .. } => {
                (StatusCode::BAD_REQUEST, "DIGEST_INVALID")
            }
            E::NameUnknown { .. } | E::ImageUnknown { .. } => {
                (StatusCode::NOT_FOUND, "NAME_UNKNOWN")
            }
            E::ManifestUnknown { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            E::ManifestInvalid { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            E::ManifestBlobUnknown { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            E::BlobUnknown { .. } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            E::BlobInUse { .. } => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            E::UploadUnknown { .. } => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            E::OutOfOrder { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            E::ChunkLength => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
            E::Receive { .. } => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            full if is_full(full) => (StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE"),
            E::Store(_) | E::Contended { .. } | E::Fetch { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE")
            }
            E::Disk { .. } | E::DamagedRecord { .. } | E::ImportSource { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN")
            }
        };
        let mut refusal = Self::new(status, code, error.to_string());
        if status.is_server_error() {
            tracing::warn!(error = chain(&error), "a registry request failed");
            // The log has the paths; whoever pushes needs to know only what to do.
            refusal.message = if is_full(&error) {
                "no space is left on the registry's disk".into()
            } else {
                "the registry could not do this; its log says why".into()
            };
        }
        if let E::OutOfOrder { at, .. } = error {
            refusal.range = Some(at);
        }
        refusal
    }
}

/// Whether only more space helps.
fn is_full(error: &RegistryError) -> bool {
    use std::io::ErrorKind;
    match error {
        RegistryError::Disk { source, .. } => {
            matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        }
        RegistryError::Store(StoreError::NoSpace { .. }) => true,
        _ => false,
    }
}

/// Bytes received so far, inclusive, as `Range` reports them.
pub(super) fn range_of(length: u64) -> HeaderValue {
    text(&format!("0-{}", length.saturating_sub(1)))
}

/// A header value of text that is known to be printable ASCII.
pub(super) fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

/// Adds the header by which Docker recognises a registry.
pub(super) fn versioned(mut response: Response) -> Response {
    response.headers_mut().insert(VERSION.0, VERSION.1);
    response
}

pub(super) fn json(value: &Value) -> Result<Response, Refusal> {
    let mut response = Response::new(Body::from(value.to_string()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// An answer without body.
pub(super) fn empty(
    status: StatusCode,
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().extend(headers);
    response
}

/// One parameter of the query string, percent-decoded.
pub(super) fn query(uri: &axum::http::Uri, name: &str) -> Option<String> {
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    pairs.0.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// A list cut to `?n=` entries behind `?last=`, and the address of the next part.
pub(super) fn page(all: Vec<String>, uri: &axum::http::Uri) -> (Vec<String>, Option<HeaderValue>) {
    let last = query(uri, "last");
    let limit = query(uri, "n").and_then(|n| n.parse::<usize>().ok());
    let mut rest: Vec<String> =
        all.into_iter().filter(|entry| last.as_ref().is_none_or(|last| entry > last)).collect();
    let Some(limit) = limit.filter(|limit| *limit < rest.len()) else { return (rest, None) };
    rest.truncate(limit);
    let link = rest
        .last()
        .map(|last| text(&format!("<{}?n={limit}&last={last}>; rel=\"next\"", uri.path())));
    (rest, link)
}
