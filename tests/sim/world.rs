//! Several computers on one thread: each has a runtime of its own, all go in step.
//!
//! ```text
//!  one millisecond:  the world (network, clients, demon) ─► host 1 ─► host 2 ─► …
//!                                                             frozen: skipped, its clock
//!                                                             jumps when it goes on
//! ```
//!
//! Why a runtime per life of a member: a crash drops it, and with it every task at
//! whatever await it stood; a frozen host runs nothing at all, like a stopped process;
//! and what a member spawns cannot outlive it.
//! Invariants: one thread, a fixed order, no time but the virtual; runtimes are dropped
//! between steps only.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, advance, sleep_until};

const STEP: Duration = Duration::from_millis(1);
/// Virtual time in which every run must be over.
const LONGEST_MS: u64 = 30 * 60 * 1_000;

thread_local! {
    static NOW_MS: Cell<u64> = const { Cell::new(0) };
}

/// Virtual milliseconds since the run began, the same for everybody.
pub(crate) fn now_ms() -> u64 {
    NOW_MS.with(Cell::get)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[derive(Debug)]
struct Host {
    runtime: Arc<Runtime>,
    /// Where its clock stands.
    clock: Instant,
    frozen: bool,
    missed: u32,
}

impl Host {
    fn new() -> Self {
        let runtime = runtime();
        let clock = {
            // The time of this runtime, also where another one is running.
            let _inside = runtime.enter();
            Instant::now()
        };
        Self { runtime: Arc::new(runtime), clock, frozen: false, missed: 0 }
    }
}

/// Names one life of a computer.
pub(crate) type HostId = u64;

#[derive(Debug, Default)]
struct Known {
    running: BTreeMap<HostId, Host>,
    ended: Vec<Host>,
    number: HostId,
}

/// All computers that run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts(Arc<Mutex<Known>>);

impl Hosts {
    /// Switches a computer on.
    pub(crate) fn start(&self) -> (HostId, Handle) {
        let mut known = self.0.lock().unwrap();
        known.number += 1;
        let (number, host) = (known.number, Host::new());
        let handle = host.runtime.handle().clone();
        known.running.insert(number, host);
        (number, handle)
    }

    /// Cuts its power: none of its tasks is ever polled again.
    pub(crate) fn kill(&self, host: HostId) {
        let mut known = self.0.lock().unwrap();
        if let Some(host) = known.running.remove(&host) {
            known.ended.push(host);
        }
    }

    pub(crate) fn freeze(&self, host: HostId, frozen: bool) {
        if let Some(host) = self.0.lock().unwrap().running.get_mut(&host) {
            host.frozen = frozen;
        }
    }

    pub(crate) fn thaw_all(&self) {
        for host in self.0.lock().unwrap().running.values_mut() {
            host.frozen = false;
        }
    }

    fn step(&self) {
        let ids: Vec<HostId> = self.0.lock().unwrap().running.keys().copied().collect();
        for id in ids {
            // Not held while the host runs: its tasks may start and freeze others.
            let (runtime, until, missed) = {
                let mut known = self.0.lock().unwrap();
                let Some(host) = known.running.get_mut(&id) else { continue };
                host.clock += STEP;
                if host.frozen {
                    host.missed += 1;
                    continue;
                }
                (host.runtime.clone(), host.clock, std::mem::take(&mut host.missed))
            };
            if missed > 0 {
                runtime.block_on(async { advance(STEP * missed).await });
            }
            runtime.block_on(async { sleep_until(until).await });
        }
        let ended = std::mem::take(&mut self.0.lock().unwrap().ended);
        drop(ended);
    }
}

/// Runs `main` in the world, beside the hosts that it starts, and ends them all.
pub(crate) fn run<T, F>(main: impl FnOnce(Hosts, Handle) -> F) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    NOW_MS.with(|now| now.set(0));
    let hosts = Hosts::default();
    let mut world = Host::new();
    let runtime = world.runtime.clone();
    let main = runtime.spawn(main(hosts.clone(), runtime.handle().clone()));
    while !main.is_finished() {
        NOW_MS.with(|now| now.set(now.get() + 1));
        assert!(now_ms() < LONGEST_MS, "the run does not end");
        world.clock += STEP;
        runtime.block_on(async { sleep_until(world.clock).await });
        hosts.step();
    }
    let result = runtime.block_on(main).unwrap();
    let ids: Vec<HostId> = hosts.0.lock().unwrap().running.keys().copied().collect();
    ids.into_iter().for_each(|host| hosts.kill(host));
    let ended = std::mem::take(&mut hosts.0.lock().unwrap().ended);
    drop(ended);
    result
}
