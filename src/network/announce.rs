//! Announces the addresses of load balancers that this node is named for.
//!
//! ```text
//! Services ─► announced by this node? ─► address on the link, for LEASE ─► neighbours told
//! every TICK: does the API answer? ─ yes ─► all times begin again
//!                                  └ no, for LEASE ─► the kernel takes the addresses away
//! ```
//! Why the times: another node takes over once this one is declared dead
//! (`limits::NODE_DEAD_AFTER` after its last heartbeat); before that its addresses must be
//! gone, also when its program hangs. Why a refusal without a majority counts as an
//! answer: then nobody can name another node either, and clients should be served on.
//! Invariant: an address stands on a link no longer than [`LEASE`] after the last answer.
//! Not here: who is named (controllers/load_balancer.rs).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Service};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::client::api::{ApiError, ResourceRef, SharedApi};
use crate::logic::address_pools::{ANNOUNCED_BY, is_ours};
use crate::network::Plan;
use crate::network::source::View;
use crate::sys::announce::{Segment, lend_address, segment_of, take_address, tell_neighbours};

/// How often the API is asked.
const TICK: Duration = Duration::from_secs(2);
/// How long after the last answer addresses stay; less than a node's silence may last.
const LEASE: Duration = Duration::from_secs(7);
/// How often neighbours are told again, for those that missed it.
const REPEAT: Duration = Duration::from_secs(30);
/// How often they are told at first.
const FIRST_TIMES: u32 = 3;
const NODES: ResourceRef = ResourceRef::of::<Node>(false);

#[derive(Debug)]
struct Standing {
    segment: Segment,
    told: u32,
    told_at: Instant,
}

#[derive(Debug)]
struct Announcer {
    plan: Arc<Plan>,
    standing: BTreeMap<Ipv4Addr, Standing>,
    /// When the question was asked that was last answered.
    answered: Option<Instant>,
    removed: bool,
}

/// The addresses that this node is named for.
fn wanted(services: &[Arc<Service>], node: &str) -> Vec<Ipv4Addr> {
    let mine = services.iter().filter(|service| {
        let notes = service.metadata.annotations.as_ref();
        let named = notes.and_then(|notes| notes.get(ANNOUNCED_BY));
        let ours = service.spec.as_ref().is_some_and(|spec| {
            spec.type_.as_deref() == Some("LoadBalancer")
                && is_ours(spec.load_balancer_class.as_deref().unwrap_or_default())
        });
        ours && named.is_some_and(|named| named == node)
    });
    let mut addresses: Vec<Ipv4Addr> = mine
        .filter_map(|service| service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref())
        .flatten()
        .filter_map(|one| one.ip.as_ref()?.parse().ok())
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

impl Announcer {
    /// Notes whether the cluster still answers, and whether it knows this node.
    async fn ask(&mut self, api: &SharedApi) {
        let asked = Instant::now();
        let answer = tokio::time::timeout(LEASE, api.get(&NODES, None, &self.plan.node_name)).await;
        match answer {
            Ok(Ok(_)) => (self.answered, self.removed) = (Some(asked), false),
            Ok(Err(ApiError::Refused(status))) if status.code == 503 => {
                self.answered = Some(asked);
            }
            Ok(Err(ApiError::Refused(status))) => {
                tracing::debug!(error = chain(&status), "this node is not known");
                self.removed = true;
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }

    async fn settle(&mut self, wanted: &[Ipv4Addr]) {
        let left = self.answered.and_then(|at| LEASE.checked_sub(at.elapsed()));
        let left = left.filter(|left| !self.removed && *left >= Duration::from_secs(1));
        let wanted = if left.is_some() { wanted } else { &[] };
        let surplus: Vec<Ipv4Addr> =
            self.standing.keys().filter(|address| !wanted.contains(address)).copied().collect();
        for address in surplus {
            if let Some(standing) = self.standing.remove(&address) {
                tracing::info!(%address, "no more announced from here");
                if let Err(error) = take_address(standing.segment.index, address).await {
                    tracing::warn!(%address, error = chain(&error), "cannot take an address away");
                }
            }
        }
        let seconds = left.map_or(0, |left| left.as_secs());
        for address in wanted {
            if let Err(error) = self.stand(*address, seconds as u32).await {
                tracing::warn!(%address, error = chain(&error), "cannot announce an address");
            }
        }
    }

    async fn stand(
        &mut self,
        address: Ipv4Addr,
        seconds: u32,
    ) -> Result<(), crate::sys::rtnl::RtnlError> {
        let Some(segment) = segment_of(address, self.plan.node_address).await? else {
            tracing::warn!(%address, "no link of this node can announce it");
            return Ok(());
        };
        lend_address(segment.index, address, seconds).await?;
        let now = Instant::now();
        let is_new = !self.standing.contains_key(&address);
        let fresh = Standing { segment, told: 0, told_at: now };
        let standing = self.standing.entry(address).or_insert(fresh);
        if is_new {
            tracing::info!(%address, "announced from here");
        }
        standing.segment = segment;
        if standing.told < FIRST_TIMES || now - standing.told_at >= REPEAT {
            match tell_neighbours(segment, address) {
                Ok(()) => (standing.told, standing.told_at) = (standing.told + 1, now),
                Err(error) => tracing::warn!(%address, %error, "cannot tell the neighbours"),
            }
        }
        Ok(())
    }
}

/// Keeps the addresses as the Services say until cancelled; then takes them away, since
/// nobody would renew them.
pub(super) async fn run(
    plan: Arc<Plan>,
    api: SharedApi,
    mut services: View<Service>,
    cancel: CancellationToken,
) {
    let mut announcer =
        Announcer { plan, standing: BTreeMap::new(), answered: None, removed: false };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let ticked = tokio::select! {
            () = cancel.cancelled() => break,
            () = services.changed() => false,
            _ = tick.tick() => true,
        };
        let mine = services.current().map(|all| wanted(&all, &announcer.plan.node_name));
        let mine = mine.unwrap_or_default();
        if mine.is_empty() && announcer.standing.is_empty() {
            continue;
        }
        // A node that has not announced anything has not asked for long.
        if ticked || announcer.standing.is_empty() {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = announcer.ask(&api) => {}
            }
        }
        announcer.settle(&mine).await;
    }
    announcer.settle(&[]).await;
}
