//! `holdfast serve`: runs this host as the node that `node.yaml` says it is.

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::app::node::NodeError;
use crate::app::serve;
use crate::base::chain::chain;
use crate::cli::exit::Exit;
use crate::cli::printer;

/// What is logged unless `HOLDFAST_LOG` says otherwise: our own steps, others' warnings.
const DEFAULT_LOG: &str = "warn,holdfast=info";

/// Runs this host as a node until it is told to stop (SIGTERM or SIGINT).
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The node's configuration, written by `init` and `join`.
    #[arg(long, default_value = "/etc/holdfast/node.yaml")]
    config: PathBuf,
}

/// Runs it; logs go to stderr.
pub async fn run(args: ServeArgs) -> Exit {
    let filter =
        EnvFilter::try_from_env("HOLDFAST_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
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
