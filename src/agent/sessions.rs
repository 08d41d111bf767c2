//! Conversations with what runs in a pod: commands, attached containers, ports.
//!
//! Why the uid is asked for: a pod of the same name may have taken another's place since
//! the API looked, and nobody asked to get into that one.
//! Invariant: only a container that runs is entered, the newest attempt of its name.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::AgentError;
use super::context::Context;
use super::labels::{
    ATTEMPT, CONTAINER_NAME, DOCKER_TYPE, MEMBER, NODE, POD_NAME, POD_NAMESPACE, POD_UID, SANDBOX,
};
use crate::engine::port::{Container, RunState};
use crate::engine::session::{Session, SessionStreams};
use crate::sys::in_netns::NetNs;

/// How long a port may take to accept.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// Whom to talk to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionTarget {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// Not read by [`dial`]: a port is the pod's.
    pub container: String,
}

fn bad(reason: String) -> AgentError {
    AgentError::BadRequest { reason }
}

/// The newest of the pod's containers of this kind and name that runs.
async fn running(
    context: &Context,
    target: &SessionTarget,
    kind: &str,
    name: Option<&str>,
) -> Result<Option<Container>, AgentError> {
    let mut labels = vec![
        (POD_NAMESPACE.to_owned(), target.namespace.clone()),
        (POD_NAME.to_owned(), target.pod.clone()),
        (POD_UID.to_owned(), target.uid.clone()),
        (NODE.to_owned(), context.node_name().to_owned()),
        (DOCKER_TYPE.to_owned(), kind.to_owned()),
    ];
    labels.extend(name.map(|name| (CONTAINER_NAME.to_owned(), name.to_owned())));
    let list = context.engine.list(&labels).await?;
    let newest = list
        .into_iter()
        .filter(|line| line.state == RunState::Running)
        .max_by_key(|line| line.labels.get(ATTEMPT).and_then(|text| text.parse::<u32>().ok()));
    let Some(newest) = newest else { return Ok(None) };
    let found = context.engine.inspect(&newest.id).await?;
    Ok(found.filter(|container| container.state == RunState::Running))
}

async fn member(context: &Context, target: &SessionTarget) -> Result<Container, AgentError> {
    let name = target.container.as_str();
    running(context, target, MEMBER, Some(name))
        .await?
        .ok_or_else(|| bad(format!("container not found (\"{name}\")")))
}

pub(super) async fn exec(
    context: &Context,
    target: &SessionTarget,
    command: &[String],
    streams: SessionStreams,
) -> Result<Session, AgentError> {
    if command.is_empty() {
        return Err(bad("you must specify at least 1 command for the container".to_owned()));
    }
    let container = member(context, target).await?;
    Ok(context.engine.open_exec(&container.id, command, streams).await?)
}

pub(super) async fn attach(
    context: &Context,
    target: &SessionTarget,
    streams: SessionStreams,
) -> Result<Session, AgentError> {
    let container = member(context, target).await?;
    // What the container was made with decides, not what the caller believes.
    let streams =
        SessionStreams { tty: container.tty, stdin: streams.stdin && container.stdin, ..streams };
    Ok(context.engine.open_attach(&container.id, streams, container.stdin_once).await?)
}

pub(super) async fn dial(
    context: &Context,
    target: &SessionTarget,
    port: u16,
) -> Result<tokio::net::TcpStream, AgentError> {
    let pod = format!("{}/{}", target.namespace, target.pod);
    let sandbox = running(context, target, SANDBOX, None)
        .await?
        .ok_or_else(|| AgentError::NotFound { what: format!("a running sandbox of pod {pod}") })?;
    let refused = |why: String| bad(format!("cannot connect to port {port} of pod {pod}: {why}"));
    let netns = NetNs::of_process(sandbox.pid).map_err(|error| refused(error.to_string()))?;
    let opened = netns.run(move || async move { connect(port) }).await;
    let stream = opened
        .map_err(|error| refused(error.to_string()))?
        .map_err(|error| refused(error.to_string()))?;
    tokio::net::TcpStream::from_std(stream).map_err(|error| refused(error.to_string()))
}

/// Blocks its thread, which is made for this one connection.
fn connect(port: u16) -> std::io::Result<std::net::TcpStream> {
    let old = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let new = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let opened = std::net::TcpStream::connect_timeout(&old, DIAL_LIMIT);
    // What listens on one of the two families only is found on the other.
    let stream = opened.or_else(|first| {
        std::net::TcpStream::connect_timeout(&new, DIAL_LIMIT).map_err(|_| first)
    })?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
