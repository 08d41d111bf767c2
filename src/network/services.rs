//! Keeps the balancing rules as Services and EndpointSlices say.
//!
//! Why coalesced: a rollout changes dozens of slices a second, and each rewrite costs a
//! process and a kernel transaction. Why the first change of a burst is written at once:
//! a pod that ends refuses connections from that moment on. Invariants: a change is in the
//! kernel within about [`COALESCE`] and one run of `nft`; nothing is written before the lists
//! are complete, so that a restart does not empty a working table; a UDP client that keeps
//! sending from one port leaves an endpoint that is gone, because the flow is forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::logic::balance::{Transport, VirtualPort};
use crate::logic::schedule::CENTER_LABEL;
use crate::logic::service_ports::{Here, ServicePort, Target, service_ports};
use crate::network::pod_net::Published;
use crate::network::ruleset::{self, Balanced};
use crate::network::source::View;
use crate::network::{NetworkError, Plan};
use crate::sys::conntrack;
use crate::sys::nft::{self, Names};

/// Changes within this time are written together.
const COALESCE: Duration = Duration::from_millis(150);
/// How soon a failed write is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the table is written even without change, because `nft flush ruleset` by an
/// administrator's firewall script tells nobody.
const REWRITE: Duration = Duration::from_secs(60);

/// Writes the table and remembers what stands in it.
#[derive(Debug)]
struct Writer {
    plan: Arc<Plan>,
    /// `None` where the kernel must be asked.
    names: Option<Names>,
}

impl Writer {
    async fn write(&mut self, balanced: &Balanced) -> Result<(), NetworkError> {
        let nft = &self.plan.nft;
        let before = match self.names.take() {
            Some(names) => names,
            None => nft::names(nft, ruleset::TABLE).await?,
        };
        let (text, names) = ruleset::render(&self.plan, balanced, &before);
        nft::apply(nft, &text).await?;
        self.names = Some(names);
        Ok(())
    }
}

/// The center that a node stands in.
fn zone_of(nodes: &[Arc<Node>], name: &str) -> Option<String> {
    let node = nodes.iter().find(|node| node.metadata.name.as_deref() == Some(name))?;
    node.metadata.labels.as_ref()?.get(CENTER_LABEL).cloned()
}

/// What the rules are made from.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) services: View<Service>,
    pub(super) slices: View<EndpointSlice>,
    pub(super) nodes: View<Node>,
    pub(super) published: watch::Receiver<Published>,
}

impl Inputs {
    /// `None` until all lists are complete.
    fn current(&mut self, plan: &Plan) -> Option<Balanced> {
        let (services, slices) = (self.services.current()?, self.slices.current()?);
        let zone = zone_of(&self.nodes.current()?, &plan.node_name);
        let here = Here { node: &plan.node_name, zone: zone.as_deref() };
        let services = service_ports(&services, &slices, here);
        let own = self.published.borrow_and_update().clone();
        Some(Balanced { published: published_beside(&services, own), services })
    }
}

/// Follows the objects until cancelled. The rules stay in the kernel afterwards: pods
/// must reach their Services while the program restarts.
pub(super) async fn run(plan: Arc<Plan>, mut inputs: Inputs, cancel: CancellationToken) {
    let mut written: Option<Balanced> = None;
    let mut again = true;
    let mut writer = Writer { plan: plan.clone(), names: None };
    let mut not_before = Instant::now();
    loop {
        let mut pause = REWRITE;
        if let Some(balanced) = inputs.current(&plan)
            && (again || written.as_ref() != Some(&balanced))
        {
            not_before = Instant::now() + COALESCE;
            match writer.write(&balanced).await {
                Ok(()) => {
                    tracing::debug!(ports = balanced.services.len(), "balancing rules written");
                    forget_gone(written.as_ref(), &balanced);
                    (written, again) = (Some(balanced), false);
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot write balancing rules");
                    pause = RETRY;
                }
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = inputs.services.changed() => {}
            () = inputs.slices.changed() => {}
            () = inputs.nodes.changed() => {}
            changed = inputs.published.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {
                (writer.names, again) = (None, true);
                continue;
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep_until(not_before) => {}
        }
    }
}

/// Forgets the flows of UDP endpoints that are no more. What went while the program was
/// away is not known; those flows end when the kernel hears no answer for 30 s.
fn forget_gone(before: Option<&Balanced>, after: &Balanced) {
    let targets = |balanced: &Balanced| -> BTreeSet<Target> {
        let services = balanced.services.iter().filter(|port| port.transport == Transport::Udp);
        let published = balanced.published.iter().filter(|port| port.transport == Transport::Udp);
        let services = services.flat_map(|port| port.endpoints.iter().copied());
        services.chain(published.flat_map(|port| port.endpoints.iter().copied())).collect()
    };
    let Some(before) = before else { return };
    let (before, after) = (targets(before), targets(after));
    let gone: BTreeSet<Target> = before.difference(&after).copied().collect();
    if gone.is_empty() {
        return;
    }
    match conntrack::forget_udp(&gone) {
        Ok(flows) => tracing::debug!(flows, "flows to endpoints that are gone are forgotten"),
        Err(error) => tracing::warn!(%error, "cannot forget flows to endpoints that are gone"),
    }
}

/// The node's ports that lead to its pods. Of two that claim the same one, the Service's
/// or else the first pod's counts: the kernel takes no two.
fn published_beside(services: &[ServicePort], published: Published) -> Vec<VirtualPort> {
    let mut taken: BTreeSet<_> =
        services.iter().map(|port| (port.address, port.transport, port.port)).collect();
    let claims = published.into_values().flatten();
    claims.filter(|port| taken.insert((port.address, port.transport, port.port))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let service = ServicePort {
            address: [10, 0, 0, 1].into(),
            transport: Transport::Tcp,
            port: 80,
            affinity_s: None,
            endpoints: Vec::new(),
            local: Vec::new(),
            inside_local: false,
            outside: None,
        };
        assert_eq!(published_beside(&[service], published), [port(81, [10, 1, 0, 2])]);
    }
}
