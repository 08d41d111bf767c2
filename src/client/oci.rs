//! A client of the cluster's registry: OCI distribution-spec 1.1, the pushing half.
//!
//! Why own code: it is five requests, with the administrator's client certificate, which
//! the common tools take only through files in a directory of theirs.
//! Invariants: only the cluster's authority is trusted; a body is sent once, for it comes
//! from a stream. Not here: what to push (oci_import.rs).

use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::base::chain::chain;
use crate::base::limits;
use crate::client::endpoint::HttpConfig;
use crate::client::http::{HttpSetupError, client_builder};

/// How long the registry may be silent within one request: it writes a whole layer to
/// disk before it answers.
const SILENCE: Duration = Duration::from_secs(120);
const DIGEST_HEADER: &str = "docker-content-digest";

#[derive(Debug, thiserror::Error)]
pub enum OciError {
    #[error("cannot reach the registry at {registry}: {reason}")]
    Unreachable { registry: String, reason: String },
    #[error("the registry at {registry} refused to {action} (HTTP {status}): {message}")]
    Refused { registry: String, action: String, status: u16, message: String },
    #[error("cannot understand what the registry at {registry} answered: {reason}")]
    Garbled { registry: String, reason: String },
}

/// One registry.
#[derive(Clone, Debug)]
pub struct OciClient {
    client: reqwest::Client,
    /// `https://10.0.0.1:5000`.
    base: String,
}

impl OciClient {
    /// Uses authority and identity of `config`; `registry` is `host:port`. Needs rustls's
    /// process-wide provider to be installed.
    pub fn new(registry: &str, config: HttpConfig) -> Result<Self, HttpSetupError> {
        let client = client_builder(config.ca_pem, config.identity)?.read_timeout(SILENCE);
        let base = format!("https://{registry}");
        Ok(Self { client: client.build().map_err(HttpSetupError::Client)?, base })
    }

    /// Where it is, `https://10.0.0.1:5000`.
    pub fn base(&self) -> &str {
        &self.base
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}/v2/{path}", self.base))
    }

    fn unreachable(&self, error: &reqwest::Error) -> OciError {
        OciError::Unreachable { registry: self.base.clone(), reason: chain(error) }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, OciError> {
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    /// The answer if it is a success, else the registry's own words.
    async fn expect(&self, action: String, answer: Response) -> Result<Response, OciError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.text().await.unwrap_or_default();
        let parsed: Value = serde_json::from_str(&body).unwrap_or_default();
        let said = parsed.pointer("/errors/0/message").and_then(Value::as_str);
        let message = said.unwrap_or("it gave no reason").to_owned();
        let registry = self.base.clone();
        Err(OciError::Refused { registry, action, status: status.as_u16(), message })
    }

    /// Whether it answers and knows who we are.
    pub async fn check(&self) -> Result<(), OciError> {
        let request = self.request(Method::GET, "").timeout(limits::CLIENT_REQUEST_TIMEOUT);
        let answer = self.send(request).await?;
        self.expect("let us in".into(), answer).await.map(drop)
    }

    /// Whether it has this content, here or on a peer.
    pub async fn has_blob(&self, repository: &str, digest: &str) -> Result<bool, OciError> {
        let request = self.request(Method::HEAD, &format!("{repository}/blobs/{digest}"));
        let answer = self.send(request).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        self.expect(format!("say whether it has {digest}"), answer).await.map(|_| true)
    }

    /// Sends content in one request.
    pub async fn push_blob(
        &self,
        repository: &str,
        digest: &str,
        size: u64,
        content: Body,
    ) -> Result<(), OciError> {
        let path = format!("{repository}/blobs/uploads/?digest={digest}");
        let request = self
            .request(Method::POST, &path)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size)
            .body(content);
        let answer = self.send(request).await?;
        self.expect(format!("take {digest}"), answer).await.map(drop)
    }

    /// The digest that a tag or digest stands for; `None` when it is not known.
    pub async fn manifest_digest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<Option<String>, OciError> {
        let request = self.request(Method::HEAD, &format!("{repository}/manifests/{reference}"));
        let answer = self.send(request).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let action = format!("say what {repository}:{reference} is");
        let answer = self.expect(action, answer).await?;
        let digest = answer.headers().get(DIGEST_HEADER).and_then(|value| value.to_str().ok());
        let digest = digest.ok_or_else(|| OciError::Garbled {
            registry: self.base.clone(),
            reason: format!("no digest for {repository}:{reference}"),
        })?;
        Ok(Some(digest.to_owned()))
    }

    /// Records a manifest under a tag or under its digest.
    pub async fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        content: Vec<u8>,
    ) -> Result<(), OciError> {
        let request = self
            .request(Method::PUT, &format!("{repository}/manifests/{reference}"))
            .header(CONTENT_TYPE, media_type)
            .body(content);
        let answer = self.send(request).await?;
        self.expect(format!("take {repository}:{reference}"), answer).await.map(drop)
    }

    /// All images with tags, size and the nodes that hold them, as the registry says it.
    pub async fn inventory(&self) -> Result<Value, OciError> {
        let request = self.request(Method::GET, "_holdfast/images");
        let answer = self.send(request.timeout(limits::CLIENT_REQUEST_TIMEOUT)).await?;
        let answer = self.expect("list its images".into(), answer).await?;
        let body = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body).map_err(|error| OciError::Garbled {
            registry: self.base.clone(),
            reason: error.to_string(),
        })
    }
}
