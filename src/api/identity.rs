//! Who is at the other end of a connection.

/// Put into every request's extensions by the listener, from the client certificate:
/// common name and organizations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    pub user: String,
    pub groups: Vec<String>,
}
