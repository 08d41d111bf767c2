//! The API over HTTPS: several servers, one client certificate, one pinned authority.
//!
//! Why several servers: any control node answers, and a client outlives the one it
//! talks to. The server that answered last is asked first.
//!
//! Invariants: a request that changes something is sent to a second server only if the
//! first one certainly did not act on it (no connection, or a refusal with 503); reads
//! go on to the next server after any transport error. Only the cluster's own authority
//! is trusted, never the host's.
//! Not here: retries over time, which belong to the caller (informers, controllers).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use http::Method;
use serde_json::Value;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use crate::base::chain::chain;
use crate::base::limits;
use crate::client::api::{
    ApiError, DeleteOptions, ListOptions, ObjectApi, ObjectList, PatchKind, ResourceRef, WatchEvent,
};
use crate::client::endpoint::HttpConfig;
use crate::client::kubeconfig::{self, KubeconfigError};
use crate::client::wire;

#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    #[error("no API server is given")]
    NoServer,
    #[error("cannot use the authority's certificate")]
    Authority(#[source] reqwest::Error),
    #[error("cannot use the client's certificate or key")]
    Identity(#[source] reqwest::Error),
    #[error("cannot build the HTTPS client")]
    Client(#[source] reqwest::Error),
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
}

/// The API over HTTPS. Cheap to clone.
#[derive(Clone)]
pub struct HttpApi {
    client: reqwest::Client,
    servers: Arc<ArcSwap<Vec<String>>>,
    preferred: Arc<AtomicUsize>,
    token: Option<Arc<str>>,
}

/// One request before it has a server.
struct Call<'a> {
    method: Method,
    path: &'a str,
    query: &'a [(&'a str, String)],
    accept: &'a str,
    body: Option<(&'static str, Bytes)>,
    /// The answer is a stream: no deadline once its head is there.
    stream: bool,
}

impl<'a> Call<'a> {
    fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, query: &[], accept: JSON, body: None, stream: false }
    }

    fn with_json(mut self, content_type: &'static str, body: &Value) -> Self {
        self.body = Some((content_type, Bytes::from(body.to_string())));
        self
    }
}

const JSON: &str = "application/json";
/// What kubectl asks for to have the server print columns.
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn plain_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limits::CLIENT_CONNECT_TIMEOUT)
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
}

/// HTTPS with the cluster's authority as the only one, and the client's own identity.
pub(super) fn client_builder(
    ca_pem: Vec<u8>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
) -> Result<reqwest::ClientBuilder, HttpSetupError> {
    let authorities =
        reqwest::Certificate::from_pem_bundle(&ca_pem).map_err(HttpSetupError::Authority)?;
    let builder = plain_builder().tls_certs_only(authorities);
    let Some((certificate, key)) = identity else { return Ok(builder) };
    let pem = [certificate.as_slice(), b"\n", key.as_slice()].concat();
    let identity = reqwest::Identity::from_pem(&pem).map_err(HttpSetupError::Identity)?;
    Ok(builder.identity(identity))
}

impl std::fmt::Debug for HttpApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpApi").field("servers", &self.servers.load()).finish_non_exhaustive()
    }
}

impl HttpApi {
    /// Needs rustls's process-wide provider to be installed.
    pub fn new(config: HttpConfig) -> Result<Self, HttpSetupError> {
        let builder = client_builder(config.ca_pem, config.identity)?;
        Self::build(builder, config.servers, config.token)
    }

    /// Goes by a TLS configuration of which the certificate may change.
    pub fn over(
        servers: Vec<String>,
        mut tls: rustls::ClientConfig,
    ) -> Result<Self, HttpSetupError> {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::build(plain_builder().tls_backend_preconfigured(tls), servers, None)
    }

    fn build(
        builder: reqwest::ClientBuilder,
        servers: Vec<String>,
        token: Option<String>,
    ) -> Result<Self, HttpSetupError> {
        if servers.is_empty() {
            return Err(HttpSetupError::NoServer);
        }
        let builder = builder
            .http2_keep_alive_interval(limits::CLIENT_PING)
            .http2_keep_alive_timeout(limits::CLIENT_PING)
            .http2_keep_alive_while_idle(true);
        Ok(Self {
            client: builder.build().map_err(HttpSetupError::Client)?,
            servers: Arc::new(ArcSwap::from_pointee(servers)),
            preferred: Arc::default(),
            token: token.map(Arc::from),
        })
    }

    /// Uses the current context of a kubeconfig.
    pub fn from_kubeconfig(path: &Path) -> Result<Self, HttpSetupError> {
        Self::new(kubeconfig::load(path)?.http)
    }

    /// Replaces the list of servers, as control nodes come and go.
    pub fn set_servers(&self, servers: Vec<String>) {
        if !servers.is_empty() {
            self.servers.store(Arc::new(servers));
        }
    }

    /// Asks one server after the other; the answer is a success.
    async fn send(&self, call: Call<'_>) -> Result<reqwest::Response, ApiError> {
        let servers = self.servers.load_full();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = ApiError::Unreachable { reason: "no API server is known".into() };
        for step in 0..servers.len() {
            let index = (first + step) % servers.len();
            match self.send_to(&servers[index], &call).await {
                Ok(answer) if answer.status().is_success() => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(answer) => {
                    let code = answer.status().as_u16();
                    let body = answer.bytes().await.unwrap_or_default();
                    let refusal = wire::refusal(code, &body);
                    if code != 503 {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Err(refusal);
                    }
                    failure = refusal;
                }
                Err(error) => {
                    let untouched = error.is_connect();
                    let reason = format!("{}: {}", servers[index], chain(&error));
                    tracing::debug!(server = servers[index], %reason, "an API server is silent");
                    if !matches!(failure, ApiError::Refused(_)) {
                        failure = ApiError::Unreachable { reason };
                    }
                    if !untouched && call.method != Method::GET {
                        // The next caller should not begin at the silent one again.
                        self.preferred.store((index + 1) % servers.len(), Ordering::Relaxed);
                        return Err(failure);
                    }
                }
            }
        }
        Err(failure)
    }

    async fn send_to(
        &self,
        server: &str,
        call: &Call<'_>,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let url = format!("{}{}", server.trim_end_matches('/'), call.path);
        let mut request = self.client.request(call.method.clone(), url);
        request = request.header(http::header::ACCEPT, call.accept);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if !call.query.is_empty() {
            request = request.query(call.query);
        }
        if let Some((content_type, body)) = &call.body {
            request = request.header(http::header::CONTENT_TYPE, *content_type).body(body.clone());
        }
        if !call.stream {
            request = request.timeout(limits::CLIENT_REQUEST_TIMEOUT);
        }
        request.send().await
    }

    async fn json(&self, call: Call<'_>) -> Result<Value, ApiError> {
        let answer = self.send(call).await?;
        let body = answer.bytes().await.map_err(unreachable)?;
        serde_json::from_slice(&body)
            .map_err(|error| ApiError::Garbled { reason: error.to_string() })
    }

    /// A GET of any path of the API, for discovery, Tables and the like.
    pub async fn get_raw(
        &self,
        path: &str,
        query: &[(&str, String)],
        accept: &str,
    ) -> Result<Value, ApiError> {
        self.json(Call { query, accept, ..Call::new(Method::GET, path) }).await
    }

    /// A change at any path of the API; `body` goes with its content type.
    pub async fn write_raw(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.json(Call::new(method, path).with_json(content_type, body)).await
    }

    /// A GET whose answer is read as it comes: a pod's log.
    pub async fn get_stream(
        &self,
        path: &str,
        query: &[(&str, String)],
        accept: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, ApiError>>, ApiError> {
        let call = Call { query, accept, stream: true, ..Call::new(Method::GET, path) };
        let answer = self.send(call).await?;
        Ok(answer.bytes_stream().map_err(unreachable).boxed())
    }

    /// A GET that answers one JSON document a line: a watch, with or without Tables.
    pub async fn get_lines(
        &self,
        path: &str,
        query: &[(&str, String)],
        accept: &str,
    ) -> Result<BoxStream<'static, Result<String, ApiError>>, ApiError> {
        let bytes = self.get_stream(path, query, accept).await?;
        let reader = StreamReader::new(bytes.map_err(std::io::Error::other));
        let codec = LinesCodec::new_with_max_length(limits::CLIENT_WATCH_LINE_MAX_BYTES);
        let lines = FramedRead::new(reader, codec)
            .map_err(|error| ApiError::Unreachable { reason: chain(&error) })
            .try_filter(|line| futures::future::ready(!line.trim().is_empty()));
        Ok(lines.boxed())
    }
}

fn unreachable(error: reqwest::Error) -> ApiError {
    ApiError::Unreachable { reason: chain(&error) }
}

#[async_trait]
impl ObjectApi for HttpApi {
    async fn get(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, ApiError> {
        let path = wire::path(resource, namespace, Some(name), None);
        self.json(Call::new(Method::GET, &path)).await
    }

    async fn list(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<ObjectList, ApiError> {
        let path = wire::path(resource, namespace, None, None);
        wire::parse_list(self.get_raw(&path, &wire::query(options), JSON).await?)
    }

    async fn create(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Value, ApiError> {
        let path = wire::path(resource, namespace, None, None);
        self.json(Call::new(Method::POST, &path).with_json(JSON, object)).await
    }

    async fn update(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        object: &Value,
    ) -> Result<Value, ApiError> {
        let path = wire::path(resource, namespace, Some(name), subresource);
        // A binding is made, not replaced: Kubernetes serves it as POST only.
        let post = matches!(subresource, Some("binding" | "eviction" | "token"));
        let method = if post { Method::POST } else { Method::PUT };
        self.json(Call::new(method, &path).with_json(JSON, object)).await
    }

    async fn patch(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        kind: PatchKind,
        patch: &Value,
    ) -> Result<Value, ApiError> {
        let path = wire::path(resource, namespace, Some(name), subresource);
        let manager = [("fieldManager", "holdfast".to_owned())];
        let query: &[_] = if kind == PatchKind::Apply { &manager } else { &[] };
        let call = Call { query, ..Call::new(Method::PATCH, &path) };
        self.json(call.with_json(wire::patch_content_type(kind), patch)).await
    }

    async fn delete(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), ApiError> {
        let path = wire::path(resource, namespace, Some(name), None);
        let call = Call::new(Method::DELETE, &path).with_json(JSON, &wire::delete_body(options));
        self.json(call).await.map(drop)
    }

    async fn watch(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, ApiError>>, ApiError> {
        let path = wire::path(resource, namespace, None, None);
        let mut query = wire::query(options);
        query.push(("watch", "true".to_owned()));
        query.push(("allowWatchBookmarks", "true".to_owned()));
        let lines = self.get_lines(&path, &query, JSON).await?;
        Ok(lines.map(|line| wire::parse_watch_line(&line?)).boxed())
    }
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;
