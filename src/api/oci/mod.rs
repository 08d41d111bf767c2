//! The registry's protocol: OCI distribution-spec 1.1 over HTTP.
//!
//! Who may: a client certificate of the cluster reads; writing takes a certificate of
//! group `system:masters` or the administrator's password. There is no anonymous access.
//! Peers add `?local=true` to a blob's address to be given only what this node holds.
//! `/v2/_holdfast/images` is ours: all images with the nodes that hold them; names that
//! begin with `_` cannot be repositories.
//!
//! Not here: TLS and listening (app), content and names (registry).

mod access;
mod answer;
mod blobs;
mod manifests;
mod path;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Method, Request};
use axum::response::Response;

pub use access::PasswordCheck;

use crate::registry::Registry;
use access::Wish;
use answer::Refusal;
use path::Target;

/// What every handler needs.
#[derive(Clone, Debug)]
struct Service {
    registry: Arc<Registry>,
    passwords: Arc<dyn PasswordCheck>,
}

/// The protocol's routes, `/v2/…`.
pub fn router(registry: Arc<Registry>, passwords: Arc<dyn PasswordCheck>) -> Router {
    let service = Service { registry, passwords };
    Router::new()
        .route("/v2", axum::routing::any(handle))
        .route("/v2/", axum::routing::any(handle))
        .route("/v2/{*rest}", axum::routing::any(handle))
        .with_state(service)
}

async fn handle(State(service): State<Service>, request: Request<Body>) -> Response {
    let wish = match *request.method() {
        Method::GET | Method::HEAD => Wish::Read,
        _ => Wish::Write,
    };
    let (parts, body) = request.into_parts();
    let answer = match access::check(&service.passwords, &parts, wish).await {
        Ok(()) => serve(&service.registry, parts, body).await,
        Err(refusal) => Err(refusal),
    };
    match answer {
        Ok(response) => answer::versioned(response),
        Err(refusal) => refusal.into_response(),
    }
}

async fn serve(registry: &Registry, parts: Parts, body: Body) -> Result<Response, Refusal> {
    let target = Target::parse(parts.uri.path())?;
    let method = parts.method.clone();
    let is = |wanted: &Method| method == *wanted;
    match target {
        Target::Base if is(&Method::GET) || is(&Method::HEAD) => {
            answer::json(&serde_json::json!({}))
        }
        Target::Catalog if is(&Method::GET) => manifests::catalog(registry, &parts).await,
        Target::Inventory if is(&Method::GET) => manifests::inventory(registry).await,
        Target::Tags(name) if is(&Method::GET) => manifests::tags(registry, &name, &parts).await,
        Target::Referrers(name, digest) if is(&Method::GET) => {
            manifests::referrers(registry, &name, &digest, &parts).await
        }
        Target::Manifest(name, reference) => match method {
            Method::GET | Method::HEAD => {
                manifests::get(registry, &name, &reference, is(&Method::HEAD)).await
            }
            Method::PUT => {
                manifests::put(registry, &name, &reference, Request::from_parts(parts, body)).await
            }
            Method::DELETE => manifests::delete(registry, &name, &reference).await,
            _ => Err(Refusal::method()),
        },
        Target::Blob(digest) => match method {
            Method::GET | Method::HEAD => blobs::get(registry, &digest, &parts).await,
            Method::DELETE => blobs::delete(registry, &digest).await,
            _ => Err(Refusal::method()),
        },
        Target::Uploads(name) if is(&Method::POST) => {
            blobs::begin(registry, &name, Request::from_parts(parts, body)).await
        }
        Target::Upload(name, id) => match method {
            Method::GET => blobs::status(registry, &name, &id).await,
            Method::PATCH => {
                blobs::append(registry, &name, &id, Request::from_parts(parts, body)).await
            }
            Method::PUT => {
                blobs::finish(registry, &name, &id, Request::from_parts(parts, body)).await
            }
            Method::DELETE => blobs::cancel(registry, &id).await,
            _ => Err(Refusal::method()),
        },
        Target::Base
        | Target::Catalog
        | Target::Inventory
        | Target::Tags(_)
        | Target::Referrers(..)
        | Target::Uploads(_) => Err(Refusal::method()),
    }
}
