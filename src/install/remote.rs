//! [`Remote`] over HTTPS, and the administrator's calls for tokens.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::chain::chain;
use crate::model::cluster_record::ClusterBootstrap;
use crate::model::dr_status::{DrStatus, ModeRequest};
use crate::model::join::{
    JoinAnswer, JoinRequest, JoinedRequest, RenewAnswer, RenewRequest, TokenAnswer, TokenInfo,
    TokenRequest,
};
use crate::model::node_list::{LeaveRequest, Removed};
use crate::model::secret_keys::{SecretKey, SecretKeysStatus};
use crate::model::status::Status;
use crate::sys::tls_keys;

use super::ports::{Credentials, Remote, RemoteError};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Adding a member takes as long as its copy of the state takes to arrive.
const JOINED_DEADLINE: Duration = Duration::from_secs(330);

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpsRemote;

/// Built for one server; every method is one call.
struct Connection {
    server: String,
    client: reqwest::Client,
    deadline: Duration,
}

impl Connection {
    fn new(server: SocketAddr, tls: rustls::ClientConfig) -> Result<Self, RemoteError> {
        let server = server.to_string();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .build()
            .map_err(|error| RemoteError::Keys { server: server.clone(), reason: chain(&error) })?;
        Ok(Self { server, client, deadline: CALL_DEADLINE })
    }

    /// The same for calls that may take longer.
    fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    fn with_keys(server: SocketAddr, own: &Credentials) -> Result<Self, RemoteError> {
        Self::over(server, &own.authority, Some((&own.certificate, &own.key)))
    }

    /// Shows no certificate.
    fn trusting(server: SocketAddr, authority: &str) -> Result<Self, RemoteError> {
        Self::over(server, authority, None)
    }

    fn over(
        server: SocketAddr,
        authority: &str,
        own: Option<(&str, &str)>,
    ) -> Result<Self, RemoteError> {
        let tls = tls_keys::client(authority, own).map_err(|error| RemoteError::Keys {
            server: server.to_string(),
            reason: chain(&error),
        })?;
        Self::new(server, tls)
    }

    fn pinned(server: SocketAddr, pin: &str) -> Result<Self, RemoteError> {
        let (tls, _) = tls_keys::pinned_client(pin).map_err(|error| RemoteError::Keys {
            server: server.to_string(),
            reason: chain(&error),
        })?;
        Self::new(server, tls)
    }

    /// A body that is sent as it is.
    async fn post_bytes<A: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<A, RemoteError> {
        let request = self
            .client
            .post(format!("https://{}{path}", self.server))
            .timeout(self.deadline)
            .body(body);
        self.answer(request.send().await.map_err(|error| self.unreachable(&error))?).await
    }

    fn unreachable(&self, error: &reqwest::Error) -> RemoteError {
        let reason = chain(error);
        let server = self.server.clone();
        if reason.contains(tls_keys::FOREIGN_AUTHORITY) {
            RemoteError::Foreign { server }
        } else {
            RemoteError::Unreachable { server, reason }
        }
    }

    async fn send<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Response, RemoteError> {
        let mut request = self
            .client
            .request(method, format!("https://{}{path}", self.server))
            .timeout(self.deadline);
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    async fn call<B: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<A, RemoteError> {
        self.answer(self.send(method, path, body).await?).await
    }

    async fn answer<A: DeserializeOwned>(&self, response: Response) -> Result<A, RemoteError> {
        let server = self.server.clone();
        let code = response.status();
        let bytes = response.bytes().await.map_err(|error| RemoteError::Unreachable {
            server: server.clone(),
            reason: chain(&error),
        })?;
        if code.is_success() {
            return serde_json::from_slice(&bytes)
                .map_err(|error| RemoteError::Garbled { server, reason: error.to_string() });
        }
        match serde_json::from_slice::<Status>(&bytes) {
            Ok(status) => {
                Err(RemoteError::Refused { server, reason: status.reason, message: status.message })
            }
            Err(_) => Err(RemoteError::Garbled { server, reason: format!("status {code}") }),
        }
    }
}

const NONE: Option<&()> = None;

/// Whether a health check answers with success; nobody listening is a no.
async fn says_yes(server: SocketAddr, own: &Credentials, path: &str) -> Result<bool, RemoteError> {
    let connection = Connection::with_keys(server, own)?;
    match connection.send(Method::GET, path, NONE).await {
        Ok(response) => Ok(response.status().is_success()),
        Err(RemoteError::Unreachable { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Remote for HttpsRemote {
    async fn is_ready(&self, server: SocketAddr, own: &Credentials) -> Result<bool, RemoteError> {
        says_yes(server, own, "/readyz").await
    }

    async fn is_alive(&self, server: SocketAddr, own: &Credentials) -> Result<bool, RemoteError> {
        says_yes(server, own, "/livez").await
    }

    async fn record_cluster(
        &self,
        server: SocketAddr,
        own: &Credentials,
        bootstrap: &ClusterBootstrap,
    ) -> Result<(), RemoteError> {
        let connection = Connection::with_keys(server, own)?;
        let path = "/holdfast/v1/cluster";
        connection.call::<_, Value>(Method::PUT, path, Some(bootstrap)).await.map(drop)
    }

    async fn server_time(&self, server: SocketAddr, pin: &str) -> Result<Timestamp, RemoteError> {
        let connection = Connection::pinned(server, pin)?;
        let response = connection.send(Method::GET, "/readyz", NONE).await?;
        let date = response.headers().get("date").and_then(|value| value.to_str().ok());
        date.and_then(|text| rfc2822::DateTimeParser::new().parse_timestamp(text).ok()).ok_or_else(
            || RemoteError::Garbled {
                server: server.to_string(),
                reason: "it does not say its time".into(),
            },
        )
    }

    async fn request_join(
        &self,
        server: SocketAddr,
        pin: &str,
        request: &JoinRequest,
    ) -> Result<JoinAnswer, RemoteError> {
        let connection = Connection::pinned(server, pin)?;
        connection.call(Method::POST, "/holdfast/v1/join", Some(request)).await
    }

    async fn renew(
        &self,
        server: SocketAddr,
        authority: &str,
        request: &RenewRequest,
    ) -> Result<RenewAnswer, RemoteError> {
        let connection = Connection::trusting(server, authority)?;
        connection.call(Method::POST, "/holdfast/v1/renew", Some(request)).await
    }

    async fn joined(
        &self,
        server: SocketAddr,
        own: &Credentials,
        node_name: &str,
    ) -> Result<(), RemoteError> {
        let connection = Connection::with_keys(server, own)?;
        let request = JoinedRequest { node_name: node_name.to_owned() };
        let path = "/holdfast/v1/joined";
        connection
            .within(JOINED_DEADLINE)
            .call::<_, Value>(Method::POST, path, Some(&request))
            .await
            .map(drop)
    }

    async fn leave(
        &self,
        server: SocketAddr,
        own: &Credentials,
        node_name: &str,
    ) -> Result<Removed, RemoteError> {
        let connection = Connection::with_keys(server, own)?;
        let request = LeaveRequest { node_name: node_name.to_owned() };
        connection.call(Method::POST, "/holdfast/v1/leave", Some(&request)).await
    }
}

impl HttpsRemote {
    pub async fn create_token(
        &self,
        server: SocketAddr,
        own: &Credentials,
        request: &TokenRequest,
    ) -> Result<TokenAnswer, RemoteError> {
        let connection = Connection::with_keys(server, own)?;
        connection.call(Method::POST, "/holdfast/v1/tokens", Some(request)).await
    }

    pub async fn list_tokens(
        &self,
        server: SocketAddr,
        own: &Credentials,
    ) -> Result<Vec<TokenInfo>, RemoteError> {
        let connection = Connection::with_keys(server, own)?;
        connection.call(Method::GET, "/holdfast/v1/tokens", NONE).await
    }

    pub async fn revoke_token(
        &self,
        server: SocketAddr,
        own: &Credentials,
        id: &str,
    ) -> Result<(), RemoteError> {
        let connection = Connection::with_keys(server, own)?;
        let path = format!("/holdfast/v1/tokens/{id}");
        connection.call::<_, Value>(Method::DELETE, &path, NONE).await.map(drop)
    }

    /// The state of disaster recovery; the administrator's.
    pub async fn dr_status(
        &self,
        server: SocketAddr,
        own: &Credentials,
    ) -> Result<DrStatus, RemoteError> {
        let connection = Connection::with_keys(server, own)?;
        connection.call(Method::GET, "/holdfast/v1/dr/status", NONE).await
    }

    pub async fn set_commit_mode(
        &self,
        server: SocketAddr,
        own: &Credentials,
        request: &ModeRequest,
    ) -> Result<DrStatus, RemoteError> {
        let connection = Connection::with_keys(server, own)?;
        connection.call(Method::POST, "/holdfast/v1/dr/mode", Some(request)).await
    }

    /// How far the keys of secrets are; the administrator's.
    pub async fn secret_keys(
        &self,
        server: SocketAddr,
        own: &Credentials,
    ) -> Result<SecretKeysStatus, RemoteError> {
        let connection = Connection::with_keys(server, own)?;
        connection.call(Method::GET, "/holdfast/v1/secret-keys", NONE).await
    }

    pub async fn rotate_secret_key(
        &self,
        server: SocketAddr,
        own: &Credentials,
    ) -> Result<Value, RemoteError> {
        let connection = Connection::with_keys(server, own)?;
        connection.call(Method::POST, "/holdfast/v1/secret-keys/rotate", NONE).await
    }

    pub async fn import_secret_keys(
        &self,
        server: SocketAddr,
        own: &Credentials,
        file: Vec<u8>,
    ) -> Result<Value, RemoteError> {
        let connection = Connection::with_keys(server, own)?;
        connection.post_bytes("/holdfast/v1/secret-keys/import", file).await
    }

    /// The keys of secrets themselves, for a control node.
    pub async fn all_secret_keys(
        &self,
        server: SocketAddr,
        own: &Credentials,
    ) -> Result<Vec<SecretKey>, RemoteError> {
        let connection = Connection::with_keys(server, own)?;
        connection.call(Method::GET, "/holdfast/v1/secret-keys/all", NONE).await
    }
}
