//! What a node serves to the control nodes: commands in containers, attaching, ports.
//!
//! ```text
//! kubectl ──WebSocket or SPDY──► api/kube ──the same bytes, mutual TLS──► here ──► agent
//!                                (who may?)       (control nodes only)
//! ```
//! Why the protocols end on the node and not on the API's: the node that holds the
//! process frames its output once, and an API server in between copies bytes whatever
//! they mean; so there is one implementation, and all nodes are reached alike.
//! Invariants: nobody but a control node is let in; what a client leaves behind is given
//! back when its connection ends; the number of conversations is bounded.
//! Not here: who may do what (`api/kube`), the processes themselves (`agent/`).

mod channel;
mod conversation;
mod port_forward;
mod port_forward_channels;
pub mod spdy;
mod spdy_exec;
mod upgrade;
mod websocket;

#[cfg(test)]
pub(crate) mod fake;

use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Json, Router};
use http::StatusCode;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::api::identity::PeerIdentity;
use crate::base::limits::POD_STREAMS_MAX;
use crate::engine::session::{Session, SessionStreams};
use crate::model::status::Status;

pub use upgrade::passed_headers;

/// Whom a conversation is with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTarget {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// Empty where the pod as a whole is meant.
    pub container: String,
}

/// What the node's agent does for this.
#[async_trait]
pub trait PodServices: Send + Sync + std::fmt::Debug + 'static {
    async fn exec(
        &self,
        target: &PodTarget,
        command: &[String],
        streams: SessionStreams,
    ) -> Result<Session, Status>;

    async fn attach(&self, target: &PodTarget, streams: SessionStreams) -> Result<Session, Status>;

    /// Opens a port of the pod, from inside it.
    async fn dial(&self, target: &PodTarget, port: u16) -> Result<TcpStream, Status>;
}

/// What is done with a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Exec,
    Attach,
    PortForward,
}

impl Action {
    /// Its segment in paths here and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Action::Exec => "exec",
            Action::Attach => "attach",
            Action::PortForward => "portforward",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [Action::Exec, Action::Attach, Action::PortForward];
        all.into_iter().find(|action| action.name() == text)
    }
}

/// Where a node serves an action on a pod; the query follows.
pub fn node_path(action: Action, namespace: &str, pod: &str) -> String {
    format!("/holdfast/v1/pods/{namespace}/{pod}/{}", action.name())
}

#[derive(Clone, Debug)]
struct Served {
    services: Arc<dyn PodServices>,
    room: Arc<Semaphore>,
    conversations: TaskTracker,
}

/// The paths, on the API's port of every node that runs pods.
pub fn router(services: Arc<dyn PodServices>) -> Router {
    let room = Arc::new(Semaphore::new(POD_STREAMS_MAX));
    Router::new()
        .route("/holdfast/v1/pods/{namespace}/{pod}/{action}", any(serve))
        .with_state(Served { services, room, conversations: TaskTracker::new() })
}

struct Refusal(Status);

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Refusal(status)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.0.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, Json(self.0)).into_response()
    }
}

/// The query of a request, in its order: `command` comes once for each word.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes(Vec<(String, String)>);

impl Wishes {
    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1")
    }

    /// As Kubernetes checks them.
    fn streams(&self) -> Result<SessionStreams, Status> {
        let tty = self.flag("tty");
        let streams = SessionStreams {
            stdin: self.flag("stdin"),
            stdout: self.flag("stdout"),
            stderr: self.flag("stderr") && !tty,
            tty,
        };
        if !(streams.stdin || streams.stdout || streams.stderr) {
            let text = "you must specify at least 1 of stdin, stdout, stderr";
            return Err(Status::bad_request(text));
        }
        Ok(streams)
    }
}

async fn serve(
    State(served): State<Served>,
    identity: Option<Extension<PeerIdentity>>,
    Path((namespace, pod, action)): Path<(String, String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Refusal> {
    let Some(Extension(identity)) = identity else {
        return Err(Status::unauthorized().into());
    };
    if !identity.is_control_node() {
        let why = format!("user {:?} is not a control node", identity.user);
        return Err(Status::forbidden("pods", "", &pod, &why).into());
    }
    let Some(action) = Action::parse(&action) else {
        return Err(Status::unknown_resource().into());
    };
    let Ok(room) = served.room.clone().try_acquire_owned() else {
        let text = format!("this node carries {POD_STREAMS_MAX} streams, which is its most");
        return Err(Status::failure(429, "TooManyRequests", text).into());
    };
    let wishes = Wishes(query);
    let target = PodTarget {
        namespace,
        pod,
        uid: wishes.get("uid").to_owned(),
        container: wishes.get("container").to_owned(),
    };
    let place = upgrade::Place { room, conversations: served.conversations };
    let response = upgrade::serve(served.services, action, target, &wishes, request, place).await?;
    Ok(response)
}
