//! Calls to other nodes' peer listeners.
//!
//! Connections are kept and asked for signs of life, so that a node that died without a
//! word is noticed within seconds and a returned one gets a fresh connection. Long messages
//! have one of their own: on a thin line between centers a heartbeat must not wait behind
//! a batch of the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rustls::ClientConfig;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::link::{Link, Lost};
use crate::store::{PeerError, PeerNetwork, PeerTarget};

/// How long a TCP and TLS connection for blobs may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// How often a kept connection for blobs is pinged, and how long the answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_DEADLINE: Duration = Duration::from_secs(2);
/// From here on a message goes with the long ones, bytes.
const LONG_BYTES: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum PeerClientError {
    #[error("cannot set up the client for peers")]
    Setup(#[source] reqwest::Error),
    #[error("cannot get {what} from {address}")]
    Get {
        what: String,
        address: String,
        #[source]
        source: reqwest::Error,
    },
}

/// Which of a node's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Short,
    /// For messages of [`LONG_BYTES`] and more.
    Long,
}

/// The client side of all peer listeners; clones share their connections.
#[derive(Clone, Debug)]
pub struct PeerClient {
    pub(super) links: Arc<Mutex<HashMap<(String, Lane), Link>>>,
    tasks: TaskTracker,
    /// For the links.
    tls: Arc<ClientConfig>,
    /// Connections of its own, so that no message of the store stands behind an image.
    blobs: reqwest::Client,
}

impl PeerClient {
    /// `tls` trusts the cluster's authority and shows this node's certificate.
    pub fn new(mut tls: ClientConfig) -> Result<Self, PeerClientError> {
        let mut for_links = tls.clone();
        for_links.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Without it the two would agree on HTTP/1.
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let blobs = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .tcp_nodelay(true)
            .http2_prior_knowledge()
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_DEADLINE)
            .http2_keep_alive_while_idle(true)
            .build()
            .map_err(PeerClientError::Setup)?;
        let (links, tasks) = (Arc::default(), TaskTracker::new());
        Ok(Self { links, tasks, tls: Arc::new(for_links), blobs })
    }

    /// Opens a blob at one node; `None` if that node does not hold it.
    pub async fn blob(
        &self,
        address: &str,
        digest: &str,
    ) -> Result<Option<reqwest::Response>, PeerClientError> {
        let failed = |source| PeerClientError::Get {
            what: format!("blob {digest}"),
            address: address.into(),
            source,
        };
        let url = format!("https://{address}{}{digest}", super::BLOB_PATH);
        let answer = self.blobs.get(url).send().await.map_err(failed)?;
        if answer.status() == http::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        answer.error_for_status().map(Some).map_err(failed)
    }

    /// The link to an address, a new one if the last has ended.
    fn link(&self, address: &str, lane: Lane) -> Link {
        let mut links = self.links.lock().expect("no holder of the links panics");
        let place = (address.to_owned(), lane);
        if let Some(link) = links.get(&place)
            && !link.is_closed()
        {
            return link.clone();
        }
        links.retain(|_, link| !link.is_closed());
        let link = Link::open(address.to_owned(), self.tls.clone(), &self.tasks);
        links.insert(place, link.clone());
        link
    }
}

#[async_trait]
impl PeerNetwork for PeerClient {
    async fn call(
        &self,
        target: &PeerTarget,
        message: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        let PeerTarget { member, address } = target;
        let (member, address) = (*member, address.clone());
        let lane = if message.len() < LONG_BYTES { Lane::Short } else { Lane::Long };
        let link = self.link(&address, lane);
        match timeout(deadline, link.call(message)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Lost::Unsent(reason))) => {
                Err(PeerError::Unreachable { member, address, reason })
            }
            Ok(Err(Lost::Unanswered(reason))) => {
                Err(PeerError::NoAnswer { member, address, reason })
            }
            Err(_) => {
                let reason = format!("nothing within {} ms", deadline.as_millis());
                Err(PeerError::NoAnswer { member, address, reason })
            }
        }
    }
}
