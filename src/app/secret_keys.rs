//! The keys of secrets on a control node: from its file to the object layer.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::base::chain::chain;
use crate::install::apply::node_credentials;
use crate::install::remote::HttpsRemote;
use crate::install::secret_keys::{KeyPeers, SecretKeyInput, SecretKeyService};
use crate::model::node_config::{NodeConfig, Paths};
use crate::model::secret_keys::SecretKey;
use crate::objects::SealedKv;
use crate::pki::{KeyRing, PkiError, SECRET_KEYS_FILE, SecretKeys};
use crate::store::{Kv, Store};
use crate::sys::clock;

/// What the parts of a control node share of it.
pub(super) struct Secrets {
    pub(super) keys: Arc<SecretKeys>,
    /// The store as the object layer uses it.
    pub(super) kv: Arc<dyn Kv>,
    pub(super) service: Arc<SecretKeyService>,
}

/// Reads the file of keys, if there is one yet, and puts encryption before the store.
pub(super) fn secrets(config: &NodeConfig, store: &Arc<Store>) -> Result<Secrets, PkiError> {
    let path = config.paths.pki().join(SECRET_KEYS_FILE);
    let keys = Arc::new(SecretKeys::new(KeyRing::load(&path)?));
    let sealed = Arc::new(SealedKv::new(store.clone(), keys.clone()));
    let (leader, own) = (store.clone(), store.member_id());
    let service = SecretKeyService::new(SecretKeyInput {
        kv: store.clone(),
        sealed: sealed.clone(),
        keys: keys.clone(),
        path,
        own_name: config.node_name.clone(),
        api_port: config.ports.api,
        peers: Arc::new(OtherKeys { paths: config.paths.clone(), remote: HttpsRemote }),
        leads: Arc::new(move || *leader.leader().borrow() == Some(own)),
        clock: Arc::new(clock::now),
    });
    Ok(Secrets { keys, kv: sealed, service: Arc::new(service) })
}

/// Other control nodes, asked by this node's certificate.
#[derive(Debug)]
struct OtherKeys {
    paths: Paths,
    remote: HttpsRemote,
}

#[async_trait]
impl KeyPeers for OtherKeys {
    async fn keys_of(&self, server: SocketAddr) -> Result<Vec<SecretKey>, String> {
        let own = node_credentials(&self.paths).map_err(|error| chain(&error))?;
        self.remote.all_secret_keys(server, &own).await.map_err(|error| chain(&error))
    }
}
