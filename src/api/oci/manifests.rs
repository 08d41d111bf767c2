//! Manifests, tags, catalog and referrers.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderName, Request, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, Limited};
use serde_json::json;

use crate::api::oci::answer::{self, Refusal, empty, query, text};
use crate::base::limits::OCI_MANIFEST_MAX_BYTES;
use crate::registry::{Digest, Reference, Registry, Repository};

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(super) async fn get(
    registry: &Registry,
    name: &Repository,
    reference: &Reference,
    head: bool,
) -> Result<Response, Refusal> {
    let found = registry.manifest(name, reference).await?;
    let length = found.content.len();
    let body = if head { Body::empty() } else { Body::from(found.content) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, text(&found.media_type));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(CONTENT_DIGEST, text(found.digest.as_str()));
    headers.insert(header::ETAG, text(&format!("\"{}\"", found.digest)));
    Ok(response)
}

pub(super) async fn put(
    registry: &Registry,
    name: &Repository,
    reference: &Reference,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = Limited::new(request.into_body(), OCI_MANIFEST_MAX_BYTES).collect().await;
    let content = match body {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(Refusal::new(status, "SIZE_INVALID", error.to_string()));
        }
    };
    let (digest, subject) =
        registry.put_manifest(name, reference, kind.as_deref(), &content).await?;
    let mut headers = vec![
        (header::LOCATION, text(&format!("/v2/{name}/manifests/{digest}"))),
        (CONTENT_DIGEST, text(digest.as_str())),
    ];
    headers.extend(subject.map(|subject| (SUBJECT, text(subject.as_str()))));
    Ok(empty(StatusCode::CREATED, headers))
}

pub(super) async fn delete(
    registry: &Registry,
    name: &Repository,
    reference: &Reference,
) -> Result<Response, Refusal> {
    registry.delete_manifest(name, reference).await?;
    Ok(empty(StatusCode::ACCEPTED, []))
}

pub(super) async fn tags(
    registry: &Registry,
    name: &Repository,
    request: &Parts,
) -> Result<Response, Refusal> {
    let (tags, link) = answer::page(registry.tags(name).await?, &request.uri);
    let mut response = answer::json(&json!({"name": name.as_str(), "tags": tags}))?;
    response.headers_mut().extend(link.map(|link| (header::LINK, link)));
    Ok(response)
}

/// All images with tags, size and the nodes that hold them.
pub(super) async fn inventory(registry: &Registry) -> Result<Response, Refusal> {
    answer::json(&json!({"images": registry.inventory().await?}))
}

pub(super) async fn catalog(registry: &Registry, request: &Parts) -> Result<Response, Refusal> {
    let (names, link) = answer::page(registry.catalog().await?, &request.uri);
    let mut response = answer::json(&json!({"repositories": names}))?;
    response.headers_mut().extend(link.map(|link| (header::LINK, link)));
    Ok(response)
}

pub(super) async fn referrers(
    registry: &Registry,
    name: &Repository,
    digest: &Digest,
    request: &Parts,
) -> Result<Response, Refusal> {
    let filter = query(&request.uri, "artifactType");
    let index = registry.referrers(name, digest, filter.as_deref()).await?;
    let mut response = answer::json(&index)?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, text("application/vnd.oci.image.index.v1+json"));
    if filter.is_some() {
        headers.insert(FILTERS, text("artifactType"));
    }
    Ok(response)
}
