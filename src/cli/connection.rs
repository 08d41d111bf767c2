//! How a verb finds the cluster it talks to.

use std::path::PathBuf;

use crate::base::chain::chain;
use crate::client::HttpApi;
use crate::model::node_config::Paths;

/// What the command line said about it.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    pub kubeconfig: Option<PathBuf>,
}

impl Connection {
    /// The flag, else `$KUBECONFIG`, else the administrator's file of this host.
    pub fn path(&self) -> PathBuf {
        let given = self.kubeconfig.clone();
        let from_environment = || std::env::var_os("KUBECONFIG").map(PathBuf::from);
        given.or_else(from_environment).unwrap_or_else(|| Paths::default().admin_kubeconfig())
    }
}

/// A client for it, or one sentence that says why not.
pub fn connect(connection: &Connection) -> Result<HttpApi, String> {
    crate::sys::tls::install_crypto();
    let path = connection.path();
    HttpApi::from_kubeconfig(&path).map_err(|error| {
        format!(
            "{}; give --kubeconfig or set KUBECONFIG (looked at {})",
            chain(&error),
            path.display()
        )
    })
}
