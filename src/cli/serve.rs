//! `holdfast serve`: runs this host as the node that `node.yaml` says it is.

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::node::NodeError;
use crate::app::serve;
use crate::base::chain::chain;
use crate::cli::exit::Exit;
use crate::cli::logging::{self, Program};
use crate::cli::printer;

/// Runs this host as a node until it is told to stop (SIGTERM or SIGINT).
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The node's configuration, written by `init` and `join`.
    #[arg(long, default_value = "/etc/holdfast/node.yaml")]
    config: PathBuf,
}

/// Runs it; logs go to stderr.
pub async fn run(args: ServeArgs) -> Exit {
    logging::start(Program::Node);
    let stop = async {
        let mut terminated = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
        let mut interrupted = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        tracing::info!("asked to stop");
    };
    match serve::run(&args.config, stop).await {
        Ok(()) => Exit::Done,
        Err(error) => {
            printer::error(&chain(&error));
            match error {
                NodeError::Config(_) | NodeError::NoMember { .. } => Exit::Usage,
                _ => Exit::Failed,
            }
        }
    }
}
