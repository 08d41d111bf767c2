//! Measures what the containers of this node and the node itself use.
//!
//! ```text
//! every tick: list ─► who runs ─► measure whom it is time for ─► two measurements: a rate
//! ```
//! Why two speeds: a container that just started gets its rate after two ticks, one that is
//! known costs the engine a call every `USAGE_INTERVAL` only.
//! Not here: what becomes of the readings (usage_board.rs), who asks (`api/node_usage`), what pods ask for (the API).

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::labels::{CONTAINER_NAME, NODE, PodIdentity, is_sandbox};
use super::usage_board::{Reading, Track, Tracked};
use crate::base::limits::USAGE_TICK;
use crate::engine::port::RunState;
use crate::sys::host_facts;

/// Containers that are measured at once.
const AT_ONCE: usize = 4;

/// Measures until cancelled.
pub(crate) async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let mut tick = tokio::time::interval(USAGE_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sample(&context) => {}
        }
    }
}

async fn sample(context: &Context) {
    let board = &context.usage;
    match host_facts::usage() {
        Ok(host) => {
            let reading = Reading { at: Instant::now(), cpu_total_ns: host.cpu_total_ns };
            let mut known = board.known();
            match &mut known.node {
                Some(track) if track.is_due(reading.at) => {
                    track.advance(reading, host.memory_working_set_bytes);
                }
                Some(_) => {}
                none => *none = Some(Track::begin(reading)),
            }
        }
        Err(error) => tracing::debug!(%error, "cannot measure this host"),
    }
    let label = (NODE.to_owned(), context.node_name().to_owned());
    let list = match context.engine.list(&[label]).await {
        Ok(list) => list,
        Err(error) => {
            tracing::debug!(%error, "the engine does not say what runs");
            return;
        }
    };
    let running: HashMap<String, (PodIdentity, String)> = list
        .into_iter()
        .filter(|line| line.state == RunState::Running && !is_sandbox(&line.labels))
        .filter_map(|line| {
            let pod = PodIdentity::of(&line.labels)?;
            let name = line.labels.get(CONTAINER_NAME)?.clone();
            Some((line.id, (pod, name)))
        })
        .collect();
    let now = Instant::now();
    let due: Vec<String> = {
        let mut known = board.known();
        known.containers.retain(|id, _| running.contains_key(id));
        let is_due =
            |id: &&String| known.containers.get(*id).is_none_or(|one| one.track.is_due(now));
        running.keys().filter(is_due).cloned().collect()
    };
    let measured: Vec<_> = futures::stream::iter(due)
        .map(|id| async move {
            let usage = context.engine.usage(&id).await;
            (id, Instant::now(), usage)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut known = board.known();
    for (id, at, usage) in measured {
        let Ok(usage) = usage.inspect_err(|error| tracing::debug!(id, %error, "not measured"))
        else {
            continue;
        };
        let reading = Reading { at, cpu_total_ns: usage.cpu_total_ns };
        match known.containers.get_mut(&id) {
            Some(tracked) => tracked.track.advance(reading, usage.memory_working_set_bytes),
            None => {
                if let Some((pod, name)) = running.get(&id) {
                    let (pod, name) = (pod.clone(), name.clone());
                    let track = Track::begin(reading);
                    known.containers.insert(id, Tracked { pod, name, track });
                }
            }
        }
    }
}
