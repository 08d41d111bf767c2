//! Who is calling, as the listener's TLS handshake proved.

/// Subject of the client certificate; put into a request's extensions by the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The certificate's common name.
    pub user: String,
    /// The certificate's organizations.
    pub groups: Vec<String>,
}
