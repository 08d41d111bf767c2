//! Conversations with pods: the way to the right node, and this node's agent.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use tokio::net::TcpStream;

use super::node_address::node_address;
use crate::agent::{Agent, AgentError, SessionTarget};
use crate::api::kube::{OpenedStream, PodStreams};
use crate::api::pod_streams::{PodServices, PodTarget};
use crate::base::chain::chain;
use crate::engine::session::{Session, SessionStreams};
use crate::model::node_config::NodeConfig;
use crate::model::status::Status;
use crate::objects::Objects;

/// How long a node may take to begin a conversation; its engine makes a process first.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// Asks the node that runs the pod, this one like any other.
#[derive(Debug)]
pub(super) struct RoutedStreams {
    pub config: Arc<NodeConfig>,
    pub objects: Arc<Objects>,
    /// Shows this node's certificate; speaks HTTP/1.1, which alone can switch protocols.
    pub http: reqwest::Client,
}

impl RoutedStreams {
    async fn address(&self, node: &str) -> Result<String, Status> {
        if node == self.config.node_name {
            return Ok(self.config.address.to_string());
        }
        node_address(&self.objects, node).await
    }
}

#[async_trait]
impl PodStreams for RoutedStreams {
    async fn open(
        &self,
        node: &str,
        path: &str,
        headers: HeaderMap,
    ) -> Result<OpenedStream, Status> {
        let address = self.address(node).await?;
        let url = format!("https://{address}:{}{path}", self.config.ports.api);
        let asked = self.http.get(url).headers(headers).send();
        let silent =
            |why: String| Status::unavailable(format!("node {node:?} does not answer: {why}"));
        let answer = tokio::time::timeout(OPEN_DEADLINE, asked)
            .await
            .map_err(|_| silent(format!("no answer within {} s", OPEN_DEADLINE.as_secs())))?
            .map_err(|error| silent(chain(&error)))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let body = answer.bytes().await.unwrap_or_default();
            return Err(serde_json::from_slice(&body)
                .unwrap_or_else(|_| Status::internal(String::from_utf8_lossy(&body))));
        }
        let headers = answer.headers().clone();
        let io = answer.upgrade().await.map_err(|error| silent(chain(&error)))?;
        Ok(OpenedStream { headers, io: Box::new(io) })
    }
}

/// This node's agent, in the words of the API.
#[derive(Debug)]
pub(super) struct AgentPods(pub Arc<Agent>);

fn target(from: &PodTarget) -> SessionTarget {
    SessionTarget {
        namespace: from.namespace.clone(),
        pod: from.pod.clone(),
        uid: from.uid.clone(),
        container: from.container.clone(),
    }
}

fn refusal(error: &AgentError) -> Status {
    match error {
        AgentError::BadRequest { .. } => Status::bad_request(chain(error)),
        AgentError::NotFound { .. } => Status::failure(404, "NotFound", chain(error)),
        _ => Status::internal(chain(error)),
    }
}

#[async_trait]
impl PodServices for AgentPods {
    async fn exec(
        &self,
        to: &PodTarget,
        command: &[String],
        streams: SessionStreams,
    ) -> Result<Session, Status> {
        self.0.exec(&target(to), command, streams).await.map_err(|error| refusal(&error))
    }

    async fn attach(&self, to: &PodTarget, streams: SessionStreams) -> Result<Session, Status> {
        self.0.attach(&target(to), streams).await.map_err(|error| refusal(&error))
    }

    async fn dial(&self, to: &PodTarget, port: u16) -> Result<TcpStream, Status> {
        self.0.dial(&target(to), port).await.map_err(|error| refusal(&error))
    }
}
