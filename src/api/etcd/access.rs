//! Who is let in on the etcd port at all.
//!
//! Why a rule of its own: this port gives the whole store, past the API's rules. It lets
//! in the cluster's administrators and the certificates that they issued for etcd's
//! clients. A node's certificate is refused, a control node's too: members speak to each
//! other on the peer port. What a client may do inside is decided by etcd's own users and
//! roles, where they are enabled.

use axum::extract::{Extension, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use tonic::Status;

use crate::api::identity::PeerIdentity;
use crate::api::other_sites::{MadeBy, made_by};

const NOT_LET_IN: &str = "a certificate of an administrator or of an etcd client is needed";

fn lets_in(identity: &PeerIdentity) -> bool {
    !identity.is_node() && (identity.is_admin() || identity.is_etcd_client())
}

/// Whether the caller expects gRPC's way of saying no.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/grpc"))
}

/// Refuses everybody without such a certificate.
pub(super) async fn only_clients(
    identity: Option<Extension<PeerIdentity>>,
    request: Request,
    next: Next,
) -> Response {
    // A browser with an administrator's certificate shows it for other sites' pages too.
    let by = made_by(request.method(), request.uri(), request.headers());
    if by != MadeBy::AnotherSite && identity.is_some_and(|Extension(identity)| lets_in(&identity)) {
        return next.run(request).await;
    }
    if is_grpc(request.headers()) {
        return Status::permission_denied(NOT_LET_IN).into_http::<axum::body::Body>();
    }
    (StatusCode::FORBIDDEN, format!("{NOT_LET_IN}\n")).into_response()
}

/// What is not served, for gRPC clients and for others.
pub(super) async fn unknown(request: Request) -> Response {
    if is_grpc(request.headers()) {
        return Status::unimplemented("unknown service or method").into_http::<axum::body::Body>();
    }
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(groups: &[&str]) -> PeerIdentity {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        PeerIdentity { user: "x".into(), groups, key_fingerprint: String::new() }
    }

    #[test]
    fn administrators_and_etcd_clients_alone_are_let_in() {
        assert!(lets_in(&identity(&["system:masters"])));
        assert!(lets_in(&identity(&["holdfast:etcd-clients"])));
        assert!(!lets_in(&identity(&[])));
        assert!(!lets_in(&identity(&["system:nodes"])));
        assert!(!lets_in(&identity(&["system:nodes", "holdfast:control"])));
        assert!(!lets_in(&identity(&["system:nodes", "holdfast:etcd-clients"])));
    }
}
