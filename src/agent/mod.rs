//! Turns the pods bound to this node into containers, and reports what they do.
//!
//! ```text
//!  API ──list+watch──► PodSource ──► Dispatcher ──► PodWorker (one per pod uid)
//!   ▲                                   ▲ events, survey     │ observe, plan, act
//!   │ status, events, heartbeat      Engine ◄────────────────┘
//! ```
//! Invariants: a restart of the agent or of the engine's daemon restarts no container and
//! leaves none behind; nothing is ended because something did not answer.
//! Not here: decisions (logic/restart_plan.rs, logic/pod_phase.rs), the pods' addresses
//! (network/, through the port in ports.rs).

mod account_tokens;
mod checkpoint;
mod container_spec;
mod context;
mod dispatch;
mod downward;
mod env;
mod error;
mod events;
mod grpc_probe;
mod handler;
mod host_ports;
mod labels;
mod launch;
mod logs;
mod node;
mod node_lease;
mod pod_dns;
mod pod_end;
mod pod_source;
mod pod_worker;
pub mod ports;
mod pressure;
mod pressure_board;
mod prober;
mod reclaim;
mod references;
mod sessions;
mod status_writer;
#[cfg(test)]
mod tests;
mod usage;
mod usage_board;
mod volumes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use context::{AgentConfig, LocalPod};
pub use error::AgentError;
pub use labels::{GRACE as CONTAINER_GRACE_LABEL, NODE as CONTAINER_NODE_LABEL};
pub use logs::{LogBytes, LogOptions};
pub use sessions::SessionTarget;

use crate::client::api::SharedApi;
use crate::client::usage::NodeReport;
use crate::engine::Engine;
use crate::engine::session::{Session, SessionStreams};
use crate::sys::{host_facts, pod_files};
use account_tokens::AccountTokens;
use checkpoint::Checkpoint;
use context::Context;
use dispatch::Dispatcher;
use events::EventWriter;
use node::NodeReporter;
use pod_source::PodSource;
use ports::{ImageSource, PodNetwork};
use references::References;

/// The agent of one node.
#[derive(Debug)]
pub struct Agent {
    context: Arc<Context>,
    /// Taken by `run`, which is called once.
    writer: Mutex<Option<EventWriter>>,
}

impl Agent {
    /// Makes the agent; nothing is started and nobody is asked yet.
    pub fn new(
        config: AgentConfig,
        api: SharedApi,
        engine: Arc<dyn Engine>,
        network: Arc<dyn PodNetwork>,
        images: Arc<dyn ImageSource>,
    ) -> Result<Self, AgentError> {
        let data = config.node.paths.data.clone();
        // The engine mounts as root; what pods keep here is nobody else's on the host.
        pod_files::make_dir(&config.node.paths.pods(), 0o700)
            .map_err(AgentError::files("make", config.node.paths.pods()))?;
        let host = host_facts::read(&data).map_err(AgentError::files("measure", &data))?;
        let http = handler::http_client()
            .map_err(|error| AgentError::config(format!("no client for probes: {error}")))?;
        let (events, writer) = events::channel(api.clone(), config.node.node_name.clone());
        let copies = Checkpoint::new(config.checkpoints().join("configmaps"));
        let references = References::new(api.clone(), copies);
        let tokens = AccountTokens::new(api.clone());
        let held = config.node.eviction.pressure_transition_period;
        let context = Context {
            config,
            api,
            engine,
            network,
            images,
            events,
            references,
            tokens,
            http,
            host,
            local: Mutex::new(BTreeMap::new()),
            usage: usage_board::UsageBoard::default(),
            pressure: pressure_board::PressureBoard::new(held),
        };
        Ok(Self { context: Arc::new(context), writer: Mutex::new(Some(writer)) })
    }

    /// Runs until cancelled. The containers go on.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let context = &self.context;
        let mut tasks = JoinSet::new();
        let copies = Checkpoint::new(context.config.checkpoints().join("pods"));
        let name = context.node_name().to_owned();
        let (source, desired) = PodSource::new(context.api.clone(), name, copies);
        tasks.spawn(source.run(cancel.child_token()));
        tasks.spawn(NodeReporter::new(Arc::clone(context)).run(cancel.child_token()));
        tasks.spawn(reclaim::run(Arc::clone(context), cancel.child_token()));
        tasks.spawn(usage::run(Arc::clone(context), cancel.child_token()));
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            tasks.spawn(writer.run(cancel.child_token()));
        }
        let watch = pressure::run(Arc::clone(context), desired.clone(), cancel.child_token());
        tasks.spawn(watch);
        let dispatcher = Dispatcher::new(Arc::clone(context), desired, cancel.child_token());
        tasks.spawn(dispatcher.run());
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ if cancel.is_cancelled() => {}
                _ => tracing::error!("a part of the agent ended by itself"),
            }
        }
    }

    /// A container's output.
    pub async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        options: &LogOptions,
    ) -> Result<LogBytes, AgentError> {
        logs::logs(&self.context, namespace, pod, options).await
    }

    /// Runs a command in a container and connects to it.
    pub async fn exec(
        &self,
        target: &SessionTarget,
        command: &[String],
        streams: SessionStreams,
    ) -> Result<Session, AgentError> {
        sessions::exec(&self.context, target, command, streams).await
    }

    /// Connects to a container's own process.
    pub async fn attach(
        &self,
        target: &SessionTarget,
        streams: SessionStreams,
    ) -> Result<Session, AgentError> {
        sessions::attach(&self.context, target, streams).await
    }

    /// Opens a port of a pod from inside it, so that what listens on its loopback answers.
    pub async fn dial(
        &self,
        target: &SessionTarget,
        port: u16,
    ) -> Result<tokio::net::TcpStream, AgentError> {
        sessions::dial(&self.context, target, port).await
    }

    /// What the node and its containers use, as measured last.
    pub fn usage(&self) -> NodeReport {
        self.context.usage.report()
    }

    /// The pods on this node as last seen; works without the API.
    pub fn local_pods(&self) -> Vec<LocalPod> {
        let local = self.context.local.lock().unwrap_or_else(PoisonError::into_inner);
        local.values().cloned().collect()
    }
}
