//! The container engine: a port in our own words, and Docker behind it.
//!
//! Why a port: the agent's decisions are tested against an engine in memory, and Podman
//! or containerd can come later without touching them.
//! Not here: what should run (agent/), when to restart (logic/restart.rs).

mod docker;
mod docker_session;
mod docker_stream;
mod docker_translate;
pub mod error;
#[cfg(test)]
pub(crate) mod fake;
pub mod port;
pub mod session;

pub use docker::DockerEngine;
pub use error::EngineError;
pub use port::Engine;
