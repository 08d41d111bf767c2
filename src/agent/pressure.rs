//! Ends pods when the node runs out of memory, disk or process ids, and says so.
//!
//! ```text
//! every period: levels ─► thresholds met ─► condition, held for a while
//!                             └─► (disk) images without a container go ─► levels again
//!                                     └─► one pod is chosen, its worker kills it: Evicted
//! ```
//! Invariants: one pod at a time, the next only after another look at what is left; what is
//! critical stays.
//! Not here: whom to choose (`logic/eviction`), the taints (`controllers/node_life`).

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::events::Gravity;
use super::pod_source::{DesiredPod, DesiredPods};
use crate::base::chain::chain;
use crate::base::limits::PRESSURE_PERIOD;
use crate::logic::amount;
use crate::logic::eviction::{
    Candidate, Level, Share, Signal, choose, is_critical, is_met, message,
};
use crate::logic::pod_phase::final_phase;
use crate::model::threshold::Threshold;
use crate::sys::{host, host_facts, pod_files};

/// A pod that has less on the disk than this is not ended for the disk's sake, bytes.
const LITTLE_BYTES: u64 = 1024 * 1024;

/// Watches until cancelled.
pub(crate) async fn run(
    context: Arc<Context>,
    desired: watch::Receiver<DesiredPods>,
    cancel: CancellationToken,
) {
    let mut tick = tokio::time::interval(PRESSURE_PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        let pods = desired.borrow().clone();
        look(&context, &pods).await;
    }
}

/// What is below its threshold, memory first: it is what the kernel would kill for.
fn lacking(context: &Context) -> Vec<(Signal, Threshold, Level)> {
    let levels = match host_facts::levels(&context.config.node.paths.data) {
        Ok(levels) => levels,
        Err(error) => {
            tracing::warn!(%error, "cannot measure what is left on this node");
            return Vec::new();
        }
    };
    let level = |(available, capacity)| Level { available, capacity };
    let limits = &context.config.node.eviction;
    let signals = [
        (Signal::Memory, limits.memory_available, level(levels.memory_bytes)),
        (Signal::Disk, limits.nodefs_available, level(levels.disk_bytes)),
        (Signal::Inodes, limits.nodefs_inodes_free, level(levels.inodes)),
        (Signal::Pids, limits.pid_available, level(levels.tasks)),
    ];
    let met = signals.into_iter().filter(|(_, threshold, level)| is_met(*threshold, *level));
    let met: Vec<_> = met.collect();
    context.pressure.note(met.iter().map(|(signal, ..)| *signal));
    met
}

async fn look(context: &Context, pods: &DesiredPods) {
    let Some((signal, ..)) = lacking(context).first().copied() else { return };
    if matches!(signal, Signal::Disk | Signal::Inodes) {
        // Images come back from the registry; a pod's end is felt.
        match context.engine.remove_unused_images().await {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "images without a container were removed"),
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot remove unused images");
            }
        }
    }
    if let Some((signal, threshold, level)) = lacking(context).first() {
        relieve(context, pods, *signal, *threshold, *level).await;
    }
}

async fn relieve(
    context: &Context,
    pods: &DesiredPods,
    signal: Signal,
    threshold: Threshold,
    level: Level,
) {
    tracing::warn!(resource = signal.resource(), ?level, "this node runs out");
    let going = |pod: &&Arc<DesiredPod>| context.pressure.evicted(&pod.identity.uid).is_some();
    if pods.pods.values().filter(going).any(|pod| !context.pressure.is_over(&pod.identity.uid)) {
        // Somebody goes already; what he leaves is seen at the next look.
        return;
    }
    let alive: Vec<Arc<DesiredPod>> = pods
        .pods
        .values()
        .filter(|pod| !pod.is_being_deleted() && final_phase(&pod.pod).is_none() && !going(pod))
        .cloned()
        .collect();
    let report = context.usage.report();
    let mut candidates = Vec::new();
    for pod in &alive {
        let uid = &pod.identity.uid;
        let memory = report.pods.iter().find(|one| one.uid == *uid).map(|one| &one.containers);
        let disk = match signal {
            Signal::Disk | Signal::Inodes => disk_of(context, uid).await,
            _ => None,
        };
        if disk.is_some_and(|bytes| bytes < LITTLE_BYTES) {
            // Its end would give nothing back.
            continue;
        }
        let spec = pod.pod.spec.clone().unwrap_or_default();
        let mut containers: Vec<Share> = Vec::new();
        for container in &spec.containers {
            let requests = container.resources.as_ref().and_then(|one| one.requests.as_ref());
            let request = amount::units_of(requests, "memory").unwrap_or(0);
            let used = memory.and_then(|all| all.get(&container.name));
            containers.push(Share {
                name: container.name.clone(),
                used: match signal {
                    Signal::Memory => used.map(|one| one.memory_bytes),
                    _ => None,
                },
                request: u64::try_from(request).unwrap_or(0),
            });
        }
        // What lies on disk is the pod's, not a container's.
        if let (Some(bytes), Some(first)) = (disk, containers.first_mut()) {
            first.used = Some(bytes);
        }
        candidates.push(Candidate {
            uid: uid.clone(),
            name: pod.identity.name.clone(),
            priority: spec.priority.unwrap_or(0),
            critical: is_critical(&pod.pod),
            containers,
        });
    }
    let Some(chosen) = choose(signal, candidates) else {
        tracing::warn!("there is no pod here that may be ended");
        return;
    };
    let text = message(signal, threshold, level, &chosen);
    if let Some(pod) = alive.iter().find(|pod| pod.identity.uid == chosen.uid) {
        context.events.send(&pod.identity, None, Gravity::Warning, "Evicted", text.clone());
    }
    context.pressure.choose(chosen.uid, text);
}

/// What a pod's volumes here take of the disk.
async fn disk_of(context: &Context, uid: &str) -> Option<u64> {
    let place = context.config.node.paths.pods().join(uid);
    let measured = tokio::task::spawn_blocking(move || {
        pod_files::tree_bytes(&place, &host::mounts_below(&place))
    });
    measured.await.ok()
}
