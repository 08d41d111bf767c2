//! Reads `node.yaml`.

use std::path::{Path, PathBuf};

use crate::model::node_config::NodeConfig;
use crate::sys::files::{self, FileError};
use crate::sys::tls::TlsFiles;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "this host is not a node yet: {path} does not exist; run `holdfast init` or `holdfast join`"
    )]
    Absent { path: PathBuf },
    #[error("cannot read the node's configuration")]
    Read(#[source] FileError),
    #[error("{path} is not a node configuration: {reason}")]
    Parse { path: PathBuf, reason: String },
}

/// The configuration at `path`; unknown keys are refused.
pub(super) fn load(path: &Path) -> Result<NodeConfig, ConfigError> {
    let bytes = files::read_if_present(path).map_err(ConfigError::Read)?;
    let bytes = bytes.ok_or_else(|| ConfigError::Absent { path: path.into() })?;
    let text = String::from_utf8_lossy(&bytes);
    serde_saphyr::from_str(&text)
        .map_err(|error| ConfigError::Parse { path: path.into(), reason: error.to_string() })
}

/// Where the node's certificate and the cluster's authority lie.
pub(super) fn tls_files(node: &NodeConfig) -> TlsFiles {
    let pki = node.paths.pki();
    TlsFiles {
        authority: pki.join("ca.crt"),
        certificate: pki.join("node.crt"),
        key: pki.join("node.key"),
    }
}
