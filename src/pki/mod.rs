//! The cluster's authority, its certificates and the form of its join tokens.
//!
//! One authority per cluster signs every node and the administrator. Subjects are
//! Kubernetes' own (`system:node:NAME` in `system:nodes`, `admin` in `system:masters`),
//! so whoever reads an audit log knows them.
//! Also the keys that secrets are encrypted with, and the form of what is encrypted.
//! Not here: which tokens are valid and who redeemed them (`install/tokens`), because
//! that stands in the store.

mod authority;
mod envelope;
mod error;
mod inspect;
mod jws;
mod key_ring;
mod kubeconfig;
mod node_key;
mod secret_keys;
mod statement;
mod token;

pub use authority::{
    ADMIN_GROUP, ADMIN_NAME, Authority, CONTROL_UNIT, ETCD_GROUP, NODE_GROUP, NodeNames,
    check_client_name,
};
pub use envelope::{OVERHEAD_BYTES, OpenError, is_sealed, key_of};
pub use error::PkiError;
pub use inspect::{CertificateInfo, certificates, describe};
pub use jws::{JwsError, PublicKey, SigningKey, is_token, verify as verify_token};
pub use key_ring::{KeyRing, SECRET_KEYS_FILE, new_secret_key};
pub use kubeconfig::{KubeconfigInput, kubeconfig};
pub use node_key::{NodeKey, key_fingerprint};
pub use secret_keys::SecretKeys;
pub use statement::is_signed;
pub use token::{JoinToken, TokenError};

#[cfg(test)]
mod tests;
