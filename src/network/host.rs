//! What the host itself needs once: forwarding, the Service route, the DNS address.
//!
//! Set again every minute, because an administrator's `sysctl --system` or a network
//! restart undoes it without telling anyone.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::network::{NetworkError, Plan};
use crate::sys::{routes, sysctl};

/// How soon a failure is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How often all is checked.
const RECHECK: Duration = Duration::from_secs(60);

/// Makes the host forward packets and know the Service range.
pub(super) async fn prepare(plan: &Plan) -> Result<(), NetworkError> {
    sysctl::set("net/ipv4/ip_forward", "1")?;
    routes::set_service_route(plan.services, plan.node_address, plan.dns)
        .await
        .map_err(NetworkError::Host)
}

/// Keeps the host prepared until cancelled.
pub(super) async fn run(plan: Arc<Plan>, cancel: CancellationToken) {
    loop {
        let pause = match prepare(&plan).await {
            Ok(()) => RECHECK,
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot prepare the host's network");
                RETRY
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
