//! The files of the page at `/ui/`: `src/web`, built, packed and put into the binary.
//!
//! Why gzip alone: every browser reads it, and one form keeps the binary small; who cannot
//! read it gets the file unpacked. Built files have a hash of their content in their
//! names, so they are kept for ever; the page itself never is.
//! Invariants: no script but our files, no style but our files and what they add with the
//! number that only this answer has (nonce); nothing from elsewhere, no framing.
//! Not here: who may see the cluster: the files tell nothing of it.

use std::io::Read;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::sys::fresh;

/// A file of the built page.
struct File {
    /// Below `/ui/`.
    path: &'static str,
    media: &'static str,
    packed: &'static [u8],
}

// `FILES: &[File]`, made by build.rs from what `make page` has built.
include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// Stands in the page where the nonce belongs.
const NONCE: &str = "{{nonce}}";

const FIXED: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

pub(super) fn router() -> Router {
    Router::new()
        .route("/ui", get(|| async { Redirect::permanent("/ui/") }))
        .route("/ui/", get(index))
        .route("/ui/{*path}", get(file))
}

fn policy(nonce: &str) -> String {
    format!(
        "default-src 'self'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; \
         img-src 'self' data:; font-src 'self'; connect-src 'self'; object-src 'none'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match GzDecoder::new(packed).read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) => {
            tracing::error!(%error, "a file of the admin page is damaged");
            Vec::new()
        }
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING);
    let texts = accepted.into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let named = matches!(parts.next(), Some("gzip" | "*"));
        named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

fn dressed(mut response: Response, policy: &str) -> Response {
    let headers = response.headers_mut();
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

async fn index() -> Response {
    let Some(file) = find("index.html") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let nonce = BASE64_STANDARD.encode(fresh::random_bytes::<16>());
    let html = String::from_utf8_lossy(&unpacked(file.packed)).replace(NONCE, &nonce);
    let mut response = Response::new(Body::from(html));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    dressed(response, &policy(&nonce))
}

async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    match find(&path).filter(|file| file.path != "index.html") {
        Some(file) => serve(file, &headers),
        // A file that is gone must not be answered by a page. Elsewhere dots are in the names
        // of objects and groups, which are addresses of the page.
        None if path.starts_with("assets/") => {
            dressed(StatusCode::NOT_FOUND.into_response(), &policy("none"))
        }
        None => index().await,
    }
}

fn serve(file: &File, asked: &HeaderMap) -> Response {
    let packed = takes_gzip(asked);
    let bytes =
        if packed { Bytes::from_static(file.packed) } else { Bytes::from(unpacked(file.packed)) };
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.media));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let kept = if file.path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    dressed(response, &policy("none"))
}
