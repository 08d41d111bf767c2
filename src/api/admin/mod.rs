//! The admin page at `/ui/`, its sessions, and the status document it also shows.
//!
//! | route | what |
//! |---|---|
//! | `/ui/…` | the page: the same for everybody, nothing of the cluster in it |
//! | `/holdfast/v1/session` | signing in and out (`session`) |
//! | `/holdfast/v1/status` | this node's own view, also without a majority |
//!
//! All else that the page shows it asks of the Kubernetes API, as its user (`guard`).
//! Not here: gathering the status (`app/status`), the page's source (`src/web`).

mod door;
mod guard;
mod page;
mod session;
mod signin;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router, middleware};
use sha2::{Digest, Sha256};

use crate::api::session_caller::SessionCaller;
use crate::model::cluster_status::ClusterStatus;

pub use door::Door;
pub use guard::guard;

/// What the page needs of the node behind it.
#[async_trait]
pub trait AdminBackend: Send + Sync + Debug + 'static {
    /// The node's view of the cluster, now.
    async fn status(&self) -> ClusterStatus;

    /// The stored argon2 hash of the administrator's password, from the local replica.
    async fn password_hash(&self) -> Option<String>;
}

/// Whose page it is.
#[derive(Clone, Debug)]
pub struct Place {
    pub cluster: String,
    pub node: String,
    /// The name of this node's cookie: browsers know hosts but not ports, and several nodes
    /// may be reached through tunnels on one host.
    pub(in crate::api) cookie: String,
}

impl Place {
    pub fn new(cluster: &str, cluster_id: &str, node: &str) -> Self {
        let digest = Sha256::digest(format!("{cluster_id}/{node}"));
        let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let cookie = format!("__Host-holdfast-{short}");
        Self { cluster: cluster.to_owned(), node: node.to_owned(), cookie }
    }
}

/// The routes of this folder. What they are merged into must stand behind [`guard`].
pub fn router(door: Arc<Door>) -> Router {
    let status = Router::new()
        .route("/holdfast/v1/status", get(document))
        .layer(middleware::from_fn_with_state(door.clone(), signin::may_see_status));
    let own = Router::new()
        .route(session::PATH, get(session::show).post(session::sign_in).delete(session::sign_out))
        .merge(status)
        .with_state(door);
    own.merge(page::router())
}

async fn document(State(door): State<Arc<Door>>) -> Json<ClusterStatus> {
    Json(door.backend.status().await)
}
