//! Where a cluster's API is reached; apart from the client, so that whoever only finds out
//! (a kubeconfig) needs none.

/// Where the API is and who calls.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Base URLs, `https://10.0.0.1:6443`, in the order in which they are tried.
    pub servers: Vec<String>,
    /// PEM of the cluster's authority, the only one trusted.
    pub ca_pem: Vec<u8>,
    /// PEM of the client's certificate chain and of its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// A bearer token, where there is no certificate.
    pub token: Option<String>,
}

impl std::fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpConfig").field("servers", &self.servers).finish_non_exhaustive()
    }
}
