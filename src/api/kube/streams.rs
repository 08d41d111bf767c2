//! Exec, attach and port-forward: who is meant, and then the bytes of two connections.
//!
//! Why nothing is read here: what travels is between the client and the pod's node, which
//! has the process; see `api/pod_streams`. A change of leader, or of anything else in the
//! store, does not touch a conversation that runs.
//! Invariants: no connection to a node is made before the caller's rights and the pod
//! were checked; each side's end ends the other's; what a session of the admin page began
//! ends with the session.

use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::KubeState;
use super::logs::choose;
use super::options::Options;
use crate::api::pod_streams::{Action, node_path, passed_headers};
use crate::api::session_caller::SessionEnd;
use crate::model::kinds::Subresource;
use crate::model::status::Status;
use crate::objects::Address;
use crate::objects::access::Author;

/// How long a client may take to close its side after the node has closed its own.
const GOODBYE_LIMIT: Duration = Duration::from_secs(10);

/// A connection to a node on which the conversation goes on.
pub trait StreamIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> StreamIo for T {}

/// What a node has answered: the protocol that it chose, and the connection.
pub struct OpenedStream {
    pub headers: HeaderMap,
    pub io: Box<dyn StreamIo>,
}

impl std::fmt::Debug for OpenedStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("OpenedStream")
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// Reaches the nodes.
#[async_trait]
pub trait PodStreams: Send + Sync + std::fmt::Debug + 'static {
    /// Asks a node to switch protocols on `path`, which has its query.
    async fn open(
        &self,
        node: &str,
        path: &str,
        headers: HeaderMap,
    ) -> Result<OpenedStream, Status>;
}

/// What of a request matters here.
#[derive(Debug)]
pub(super) struct StreamRequest<'r> {
    pub(super) action: Action,
    pub(super) options: &'r Options,
    /// As it came: `command` occurs once for each word.
    pub(super) query: &'r str,
    pub(super) headers: &'r HeaderMap,
    /// Who enters, for the audit log.
    pub(super) author: Option<&'r Author>,
}

/// What a conversation takes over from the request that began it.
#[derive(Debug)]
pub(super) struct Handover {
    upgrade: OnUpgrade,
    /// Of a session of the admin page.
    end: Option<SessionEnd>,
}

impl Handover {
    pub(super) fn of(request: &mut Request) -> Self {
        let end = request.extensions().get::<SessionEnd>().cloned();
        Self { upgrade: hyper::upgrade::on(request), end }
    }
}

/// The action that a subresource stands for.
pub(super) fn action(subresource: Subresource) -> Option<Action> {
    match subresource {
        Subresource::Exec => Some(Action::Exec),
        Subresource::Attach => Some(Action::Attach),
        Subresource::PortForward => Some(Action::PortForward),
        _ => None,
    }
}

fn text_at<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Why nobody can talk to this pod, if so.
fn check_pod(pod: &Value, action: Action) -> Result<(), Status> {
    let (name, phase) = (text_at(pod, "/metadata/name"), text_at(pod, "/status/phase"));
    if text_at(pod, "/spec/nodeName").is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    if action != Action::PortForward && matches!(phase, "Succeeded" | "Failed") {
        let namespace = text_at(pod, "/metadata/namespace");
        return Err(Status::bad_request(format!(
            "cannot exec in or attach to a container in a completed pod; \
             current phase of {namespace}/{name} is {phase}"
        )));
    }
    Ok(())
}

/// `GET` or `POST pods/NAME/exec`, `attach`, `portforward`.
pub(super) async fn serve(
    state: &KubeState,
    pod: &Address,
    request: StreamRequest<'_>,
    handover: Handover,
) -> Result<Response, Status> {
    let object = state.objects.get(pod, None).await?;
    check_pod(&object, request.action)?;
    let mut path = node_path(request.action, &pod.namespace, &pod.name);
    path.push_str(&format!("?uid={}", text_at(&object, "/metadata/uid")));
    if request.action != Action::PortForward && request.options.get("container").is_none() {
        path.push_str(&format!("&container={}", choose(&object, None)?));
    } else if let Some(named) = request.options.get("container") {
        choose(&object, Some(named))?;
    }
    // The node takes the first of each name, so a caller's own uid changes nothing.
    if !request.query.is_empty() {
        path.push_str(&format!("&{}", request.query));
    }
    let node = text_at(&object, "/spec/nodeName");
    let headers = passed_headers(request.headers);
    // Before and not after: the client could hang up as soon as its command runs.
    if let Some(author) = request.author {
        state.objects.record_apart(author, StatusCode::SWITCHING_PROTOCOLS.as_u16(), "").await?;
    }
    let opened = state.streams.open(node, &path, headers).await?;
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = passed_headers(&opened.headers);
    state.conversations.spawn(converse(handover, opened.io));
    Ok(answer)
}

/// Goes on until one side ends it, or the session that it belongs to does.
async fn converse(handover: Handover, node: Box<dyn StreamIo>) {
    let Handover { upgrade, end } = handover;
    let carried = carry(upgrade, node);
    let Some(end) = end else { return carried.await };
    tokio::select! {
        () = carried => {}
        () = end.over() => tracing::debug!("a conversation ended with its session"),
    }
}

/// Copies until the node has ended its side and the client has heard it.
async fn carry(upgrade: OnUpgrade, node: Box<dyn StreamIo>) {
    let client = match upgrade.await {
        Ok(client) => client,
        Err(error) => {
            tracing::debug!(%error, "a client's connection was not handed over");
            return;
        }
    };
    let (mut client_says, mut client_hears) = tokio::io::split(TokioIo::new(client));
    let (mut node_says, mut node_hears) = tokio::io::split(node);
    let asked = async {
        let copied = tokio::io::copy(&mut client_says, &mut node_hears).await;
        // However the client went, the node sees that nothing more will come.
        let _ = node_hears.shutdown().await;
        copied
    };
    let answered = async {
        let copied = tokio::io::copy(&mut node_says, &mut client_hears).await;
        let _ = client_hears.shutdown().await;
        copied
    };
    tokio::pin!(asked, answered);
    let outcome = tokio::select! {
        // Nobody listens any more to what the client may still say.
        outcome = &mut answered => {
            let _ = tokio::time::timeout(GOODBYE_LIMIT, asked).await;
            outcome
        }
        outcome = &mut asked => outcome.and(answered.await),
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a conversation with a pod broke off");
    }
}
