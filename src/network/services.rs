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

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::logic::balance::{VirtualPort, virtual_ports};
use crate::network::pod_net::Published;
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
    mut published: watch::Receiver<Published>,
    cancel: CancellationToken,
) {
    let mut written: Option<Vec<VirtualPort>> = None;
    let mut not_before = Instant::now();
    loop {
        let mut pause = REWRITE;
        if let (Some(all), Some(parts)) = (services.current(), slices.current()) {
            let own = published.borrow_and_update().clone();
            let ports = with_published(virtual_ports(&all, &parts), own);
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
            changed = published.changed() => if changed.is_err() { return },
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

/// Services' ports and those of the node that lead to its pods. Of two that claim the
/// same one, the Service's or else the first pod's counts: the kernel takes no two.
fn with_published(services: Vec<VirtualPort>, published: Published) -> Vec<VirtualPort> {
    let key = |port: &VirtualPort| (port.address, port.transport, port.port);
    let mut taken: BTreeSet<_> = services.iter().map(key).collect();
    let mut all = services;
    all.extend(published.into_values().flatten().filter(|port| taken.insert(key(port))));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::balance::Transport;

    #[test]
    fn no_two_claim_the_same_port() {
        let port = |number, endpoint: [u8; 4]| VirtualPort {
            address: [10, 0, 0, 1].into(),
            transport: Transport::Tcp,
            port: number,
            endpoints: vec![(endpoint.into(), 8_080)],
        };
        let published = Published::from([
            ("a".to_owned(), vec![port(80, [10, 1, 0, 2]), port(81, [10, 1, 0, 2])]),
            ("b".to_owned(), vec![port(81, [10, 1, 0, 3])]),
        ]);
        let all = with_published(vec![port(80, [10, 1, 0, 9])], published);
        assert_eq!(all, [port(80, [10, 1, 0, 9]), port(81, [10, 1, 0, 2])]);
    }
}
