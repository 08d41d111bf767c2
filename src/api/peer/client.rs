//! Calls to other nodes' peer listeners.
//!
//! One HTTP/2 connection per node is kept and pinged, so that a node that died without
//! a word is noticed within seconds and a returned one gets a fresh connection.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rustls::ClientConfig;

use crate::base::chain::chain;
use crate::base::ids::MemberId;
use crate::store::{PeerError, PeerNetwork, PeerTarget};

/// How long a TCP and TLS connection to a peer may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// How often a kept connection is pinged, and how long the answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_DEADLINE: Duration = Duration::from_secs(2);

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

/// The client side of all peer listeners.
#[derive(Clone, Debug)]
pub struct HttpPeers {
    messages: reqwest::Client,
    /// Connections of its own, so that no message of the store stands behind an image.
    blobs: reqwest::Client,
}

impl HttpPeers {
    /// `tls` trusts the cluster's authority and shows this node's certificate.
    pub fn new(mut tls: ClientConfig) -> Result<Self, PeerClientError> {
        // Without it the two would agree on HTTP/1, and each message that goes beside
        // another would need a connection and a handshake of its own.
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let client = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .no_proxy()
                .connect_timeout(CONNECT_DEADLINE)
                .tcp_nodelay(true)
                .http2_prior_knowledge()
                .http2_keep_alive_interval(PING_INTERVAL)
                .http2_keep_alive_timeout(PING_DEADLINE)
                .http2_keep_alive_while_idle(true)
                .build()
                .map_err(PeerClientError::Setup)
        };
        Ok(Self { messages: client()?, blobs: client()? })
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
}

fn error(member: MemberId, address: &str, cause: &reqwest::Error) -> PeerError {
    let (address, reason) = (address.to_owned(), chain(cause));
    if cause.is_connect() {
        PeerError::Unreachable { member, address, reason }
    } else {
        PeerError::NoAnswer { member, address, reason }
    }
}

#[async_trait]
impl PeerNetwork for HttpPeers {
    async fn call(
        &self,
        target: &PeerTarget,
        message: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        let PeerTarget { member, address } = target;
        let url = format!("https://{address}{}", super::MESSAGE_PATH);
        let request = self.messages.post(url).timeout(deadline).body(message);
        let answer = request.send().await.map_err(|cause| error(*member, address, &cause))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|cause| error(*member, address, &cause))?;
        if status.is_success() {
            return Ok(body);
        }
        let reason = format!("{status}: {}", String::from_utf8_lossy(&body));
        Err(PeerError::NoAnswer { member: *member, address: address.clone(), reason })
    }
}
