//! Content and upload sessions.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Request, StatusCode, header};
use axum::response::Response;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::api::oci::answer::{Refusal, empty, query, range_of, text};
use crate::api::oci::manifests::CONTENT_DIGEST;
use crate::registry::RegistryError;
use crate::registry::{Digest, Registry, Repository, UploadStatus};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Bytes read from disk at once.
const READ_BYTES: usize = 256 * 1024;

/// The one range of a `Range` header, inclusive; `None` serves the whole.
fn wanted_range(headers: &HeaderMap, length: u64) -> Result<Option<(u64, u64)>, Refusal> {
    let Some(value) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let Some((first, last)) = value.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Ok(None);
    };
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(start), Ok(end)) => (start, end.min(length.saturating_sub(1))),
        (Ok(start), Err(_)) if last.is_empty() => (start, length.saturating_sub(1)),
        (Err(_), Ok(count)) if first.is_empty() => {
            (length.saturating_sub(count), length.saturating_sub(1))
        }
        // Several ranges or nonsense: RFC 9110 lets a server ignore the header.
        _ => return Ok(None),
    };
    if start > end || start >= length {
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        return Err(Refusal::new(status, "SIZE_INVALID", "the range is outside the blob"));
    }
    Ok(Some((start, end)))
}

pub(super) async fn get(
    registry: &Registry,
    digest: &Digest,
    request: &Parts,
) -> Result<Response, Refusal> {
    let local = query(&request.uri, "local").is_some_and(|value| value == "true");
    if request.method == axum::http::Method::HEAD && !local {
        // A client that finds content here will not send it: it must not be collected
        // before the manifest comes. What only a silent peer may have is not here for it:
        // it sends the content again, and pushing does not depend on every peer.
        if !registry.mount_blob(digest).await? {
            return Err(RegistryError::BlobUnknown { digest: digest.clone() }.into());
        }
    }
    let reader =
        if local { registry.local_blob(digest).await? } else { registry.blob(digest).await? };
    let length = reader.length;
    let range = wanted_range(&request.headers, length)?;
    let (start, count) = range.map_or((0, length), |(start, end)| (start, end - start + 1));
    let body = if request.method == axum::http::Method::HEAD {
        Body::empty()
    } else {
        let file = reader.into_reader_at(start).await.map_err(|error| {
            tracing::warn!(%digest, %error, "cannot read a blob");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "cannot read the blob")
        })?;
        Body::from_stream(ReaderStream::with_capacity(file.take(count), READ_BYTES))
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, text("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, count.into());
    headers.insert(header::ACCEPT_RANGES, text("bytes"));
    headers.insert(CONTENT_DIGEST, text(digest.as_str()));
    if let Some((start, end)) = range {
        headers.insert(header::CONTENT_RANGE, text(&format!("bytes {start}-{end}/{length}")));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

pub(super) async fn delete(registry: &Registry, digest: &Digest) -> Result<Response, Refusal> {
    registry.delete_blob(digest).await?;
    Ok(empty(StatusCode::ACCEPTED, []))
}

fn accepted(status: StatusCode, name: &Repository, upload: &UploadStatus) -> Response {
    let location = format!("/v2/{name}/blobs/uploads/{}", upload.id);
    let headers = [
        (header::LOCATION, text(&location)),
        (header::RANGE, range_of(upload.length)),
        (UPLOAD_ID, text(&upload.id)),
    ];
    empty(status, headers)
}

fn created(name: &Repository, digest: &Digest) -> Response {
    let headers = [
        (header::LOCATION, text(&format!("/v2/{name}/blobs/{digest}"))),
        (CONTENT_DIGEST, text(digest.as_str())),
    ];
    empty(StatusCode::CREATED, headers)
}

/// Begins a session, mounts from another repository, or takes the whole at once.
pub(super) async fn begin(
    registry: &Registry,
    name: &Repository,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    if let Some(digest) = query(request.uri(), "mount") {
        let digest: Digest = digest.parse()?;
        if registry.mount_blob(&digest).await? {
            return Ok(created(name, &digest));
        }
    }
    let whole =
        query(request.uri(), "digest").map(|digest| digest.parse::<Digest>()).transpose()?;
    let upload = registry.uploads().begin().await?;
    match whole {
        None => Ok(accepted(StatusCode::ACCEPTED, name, &upload)),
        Some(digest) => {
            let body = request.into_body().into_data_stream();
            registry.uploads().append(&upload.id, None, body).await?;
            registry.finish_upload(&upload.id, &digest).await?;
            Ok(created(name, &digest))
        }
    }
}

pub(super) async fn status(
    registry: &Registry,
    name: &Repository,
    id: &str,
) -> Result<Response, Refusal> {
    let upload = registry.uploads().status(id).await?;
    Ok(accepted(StatusCode::NO_CONTENT, name, &upload))
}

/// `<start>-<end>`, inclusive; some clients write `bytes <start>-<end>/<total>`.
fn content_range(headers: &HeaderMap) -> Result<Option<(u64, u64)>, Refusal> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|value| {
        let value = value.trim_start_matches("bytes").trim_start_matches(['=', ' ']);
        let (start, end) = value.split('/').next()?.split_once('-')?;
        let (start, end) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
        (start <= end && end < u64::MAX).then_some((start, end))
    });
    match parsed {
        Some(range) => Ok(Some(range)),
        None => {
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            Err(Refusal::new(status, "BLOB_UPLOAD_INVALID", "Content-Range is not valid"))
        }
    }
}

pub(super) async fn append(
    registry: &Registry,
    name: &Repository,
    id: &str,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let range = content_range(request.headers())?;
    let body = request.into_body().into_data_stream();
    let upload = registry.uploads().append(id, range, body).await?;
    Ok(accepted(StatusCode::ACCEPTED, name, &upload))
}

pub(super) async fn finish(
    registry: &Registry,
    name: &Repository,
    id: &str,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let digest = query(request.uri(), "digest").unwrap_or_default();
    let digest: Digest = digest.parse()?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let empty_body = length.is_some_and(|value| value.as_bytes() == b"0");
    let range = if empty_body { None } else { content_range(request.headers())? };
    let body = request.into_body().into_data_stream();
    registry.uploads().append(id, range, body).await?;
    registry.finish_upload(id, &digest).await?;
    Ok(created(name, &digest))
}

pub(super) async fn cancel(registry: &Registry, id: &str) -> Result<Response, Refusal> {
    registry.uploads().cancel(id).await?;
    Ok(empty(StatusCode::NO_CONTENT, []))
}
