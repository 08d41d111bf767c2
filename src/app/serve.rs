//! Runs this host as the kind of node that its configuration says it is.

use std::path::Path;
use std::sync::Arc;

use super::node::{self, NodeError};
use super::{config, removed_node, worker_node};
use crate::install::removal_note::RemovalNote;
use crate::model::node_config::Role;
use crate::sys::tls;

/// Runs the node until `stop` resolves.
pub async fn run(path: &Path, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
    tls::install_crypto();
    let config = Arc::new(config::load(path)?);
    if let Some(note) = RemovalNote::find(&config.paths)? {
        return removed_node::run(config, note, stop).await;
    }
    if config.has_role(Role::Control) {
        node::run(config, stop).await
    } else {
        worker_node::run(config, stop).await
    }
}
