//! Keeps the balancing rules as Services and EndpointSlices say.
//!
//! Why coalesced: a rollout changes dozens of slices a second, and each rewrite costs a
//! process and a kernel transaction. Why the first change of a burst is written at once:
//! a pod that ends refuses connections from that moment on. Invariants: a change is in the
//! kernel within about [`COALESCE`] and one run of `nft`; nothing is written before both lists are complete,
//! so that a restart does not empty a working table.
//!
//! Known limit: a UDP client that keeps sending from one port stays with an endpoint
//! that is gone until the kernel forgets the flow (30 s without an answer).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::logic::balance::{VirtualPort, virtual_ports};
use crate::network::source::View;
use crate::network::{NetworkError, Plan, ruleset};
use crate::sys::nft;

/// Changes within this time are written together.
const COALESCE: Duration = Duration::from_millis(150);
/// How soon a failed write is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the table is written even without change, because `nft flush ruleset` by an
/// administrator's firewall script tells nobody.
const REWRITE: Duration = Duration::from_secs(60);

/// Writes the table for these ports.
pub(super) async fn apply(plan: &Plan, ports: &[VirtualPort]) -> Result<(), NetworkError> {
    nft::apply(&plan.nft, &ruleset::render(plan, ports)).await?;
    Ok(())
}

/// Follows the objects until cancelled. The rules stay in the kernel afterwards: pods
/// must reach their Services while the program restarts.
pub(super) async fn run(
    plan: Arc<Plan>,
    mut services: View<Service>,
    mut slices: View<EndpointSlice>,
    cancel: CancellationToken,
) {
    let mut written: Option<Vec<VirtualPort>> = None;
    let mut not_before = Instant::now();
    loop {
        let mut pause = REWRITE;
        if let (Some(all), Some(parts)) = (services.current(), slices.current()) {
            let ports = virtual_ports(&all, &parts);
            if written.as_ref() != Some(&ports) {
                not_before = Instant::now() + COALESCE;
                match apply(&plan, &ports).await {
                    Ok(()) => {
                        tracing::debug!(ports = ports.len(), "balancing rules written");
                        written = Some(ports);
                    }
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "cannot write balancing rules");
                        pause = RETRY;
                    }
                }
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = services.changed() => {}
            () = slices.changed() => {}
            () = tokio::time::sleep(pause) => {
                written = None;
                continue;
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep_until(not_before) => {}
        }
    }
}
