//! A pod's log, from this node's agent or from the node that runs the pod.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use super::node_address::node_address;
use crate::agent::{self, Agent, AgentError};
use crate::api::kube::{LogOptions, LogStream, PodLogs};
use crate::base::chain::chain;
use crate::model::status::Status;
use crate::objects::Objects;

/// Routes a request for a log to the right agent.
#[derive(Debug)]
pub(super) struct RoutedLogs {
    pub node_name: String,
    /// Absent on a node that runs no pods.
    pub agent: Option<Arc<Agent>>,
    pub objects: Arc<Objects>,
    /// Shows this node's certificate, so the other node lets it read.
    pub http: reqwest::Client,
    pub api_port: u16,
}

fn text_at<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn refusal(error: &AgentError) -> Status {
    Status::bad_request(chain(error))
}

/// The log of a container on this node.
pub(super) async fn local(
    agent: &Agent,
    namespace: &str,
    pod: &str,
    options: LogOptions,
) -> Result<LogStream, Status> {
    let since =
        options.since_time.as_deref().map(str::parse).transpose().map_err(|_| {
            Status::bad_request("sinceTime must be a time like 2026-01-31T12:00:00Z")
        })?;
    let wanted = agent::LogOptions {
        since,
        container: Some(options.container),
        follow: options.follow,
        tail_lines: options.tail_lines.and_then(|lines| u64::try_from(lines).ok()),
        timestamps: options.timestamps,
        previous: options.previous,
        since_seconds: options.since_seconds,
        limit_bytes: options.limit_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
    };
    let bytes = agent.logs(namespace, pod, &wanted).await.map_err(|error| refusal(&error))?;
    Ok(bytes.map_err(|error| std::io::Error::other(chain(&error))).boxed())
}

impl RoutedLogs {
    async fn remote(
        &self,
        node: &str,
        pod: &Value,
        options: &LogOptions,
    ) -> Result<LogStream, Status> {
        let address = node_address(&self.objects, node).await?;
        let url = format!(
            "https://{address}:{}/api/v1/namespaces/{}/pods/{}/log",
            self.api_port,
            text_at(pod, "/metadata/namespace"),
            text_at(pod, "/metadata/name")
        );
        let mut query = vec![
            ("container", options.container.clone()),
            ("follow", options.follow.to_string()),
            ("previous", options.previous.to_string()),
            ("timestamps", options.timestamps.to_string()),
        ];
        query.extend(options.tail_lines.map(|lines| ("tailLines", lines.to_string())));
        query.extend(options.since_seconds.map(|seconds| ("sinceSeconds", seconds.to_string())));
        query.extend(options.since_time.clone().map(|time| ("sinceTime", time)));
        query.extend(options.limit_bytes.map(|bytes| ("limitBytes", bytes.to_string())));
        let asked = self.http.get(url).query(&query).send().await;
        let answer = asked.map_err(|error| {
            Status::unavailable(format!("node {node:?} does not answer: {}", chain(&error)))
        })?;
        if !answer.status().is_success() {
            let body = answer.bytes().await.unwrap_or_default();
            return Err(serde_json::from_slice(&body)
                .unwrap_or_else(|_| Status::internal(String::from_utf8_lossy(&body))));
        }
        Ok(answer.bytes_stream().map_err(std::io::Error::other).boxed())
    }
}

#[async_trait]
impl PodLogs for RoutedLogs {
    async fn open(&self, pod: &Value, options: LogOptions) -> Result<LogStream, Status> {
        let node = text_at(pod, "/spec/nodeName");
        match &self.agent {
            Some(agent) if node == self.node_name => {
                let (namespace, name) =
                    (text_at(pod, "/metadata/namespace"), text_at(pod, "/metadata/name"));
                local(agent, namespace, name, options).await
            }
            _ if node == self.node_name => {
                Err(Status::bad_request(format!("node {node:?} runs no pods")))
            }
            _ => self.remote(node, pod, &options).await,
        }
    }
}
