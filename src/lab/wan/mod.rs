//! The links between a lab's segments: a program that carries packets from router to router.
//!
//! ```text
//!  router a            this process                          router c
//!  route ──► link to-c ──► reads ─► shaper ─► waits ─► writes ──► link to-a ──► route
//!                          a thread           a thread
//! ```
//! Why a program: the kernel here has no discipline that delays packets. Why threads: they
//! wait in the kernel for one packet or one moment each, and nothing else makes them late.
//! What the links do stands in `D/links.json` and is read again when it changes.
//!
//! Invariants: a link that nobody carries is cut; `D/links-now.json` names the revision of
//! the settings that every packet meets from then on.
//! Not here: what happens to a packet on the way (`shaper`).

mod settings;
mod shaper;

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use settings::{Direction, LinkChange, Way, Ways};
use shaper::Shaper;

use super::error::{LabError, files};
use super::layout::{Segment, pod_ranges};
use super::record::{read_json, write_json};
use super::{Lab, Program, require_root};
use crate::sys::fresh;
use crate::sys::netlink::{Links, set_sysctl};
use crate::sys::tree;
use crate::sys::tun::Tun;
use crate::sys::waiting::wait_until;

/// Its control group below the lab's.
const GROUP: &str = "links";
/// How long it may take until a change holds.
const LIMIT: Duration = Duration::from_secs(20);
/// How often the settings are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The largest packet of a link.
const PACKET_MAX: usize = 65_536;

/// What holds, and who sees to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Now {
    pid: i32,
    revision: u64,
}

impl Lab {
    pub(super) fn links_pid(&self) -> Option<i32> {
        self.record.group.child(GROUP).processes().into_iter().next()
    }

    /// What the links shall do.
    pub fn ways(&self) -> Result<Ways, LabError> {
        Ok(read_json(&self.dir.links())?.unwrap_or_else(|| self.record.layout.ways()))
    }

    /// Starts the links' process unless it runs; returns when they do what they shall.
    pub(super) fn ensure_links(&self) -> Result<(), LabError> {
        let ways = self.ways()?;
        if !self.dir.links().exists() {
            write_json(&self.dir.links(), &ways)?;
        }
        if self.links_pid().is_none() {
            self.start_in(&self.record.group.child(GROUP), "links", "the links")?;
        }
        let holds = || {
            let now: Option<Now> = read_json(&self.dir.links_now()).ok().flatten();
            now.is_some_and(|now| {
                Some(now.pid) == self.links_pid() && now.revision == ways.revision
            })
        };
        if wait_until(LIMIT, Duration::from_millis(5), holds) {
            return Ok(());
        }
        Err(LabError::Silent {
            what: "the process of the links between the centers".to_owned(),
            limit_seconds: LIMIT.as_secs(),
            log: tree::tail(&self.dir.daemon_log(), 20).unwrap_or_default(),
        })
    }

    /// Changes the link between two centers, or only the way from the first to the second;
    /// returns when the change holds.
    pub fn change_link(
        &self,
        from: &str,
        to: &str,
        one_way: bool,
        change: &LinkChange,
    ) -> Result<(), LabError> {
        require_root()?;
        let mut ways = self.ways()?;
        if !ways.change(from, to, one_way, change) {
            let mut known: Vec<&str> = ways.ways.iter().map(|way| way.from.as_str()).collect();
            known.dedup();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(LabError::NoLink { from: from.to_owned(), to: to.to_owned(), known });
        }
        write_json(&self.dir.links(), &ways)?;
        self.ensure_links()
    }

    /// Every link as it was at first.
    pub fn heal_links(&self) -> Result<(), LabError> {
        require_root()?;
        if !self.is_routed() {
            return Ok(());
        }
        let revision = self.ways()?.revision + 1;
        write_json(&self.dir.links(), &Ways { revision, ..self.record.layout.ways() })?;
        self.ensure_links()
    }
}

/// One direction while it is carried.
struct Carried {
    from: String,
    to: String,
    shaper: Mutex<Shaper>,
    changed: Condvar,
    epoch: Instant,
}

impl Carried {
    fn lock(&self) -> MutexGuard<'_, Shaper> {
        self.shaper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes packets in for as long as the link is there.
    fn read(&self, link: &Tun) -> std::io::Result<()> {
        let mut buffer = vec![0; PACKET_MAX];
        loop {
            let length = link.receive(&mut buffer)?;
            let packet = buffer[..length].to_vec();
            let mut shaper = self.lock();
            let first = shaper.next_due().is_none();
            if shaper.offer(packet, self.epoch.elapsed()) && first {
                self.changed.notify_one();
            }
        }
    }

    /// Gives out each packet at its time.
    fn write(&self, link: &Tun) -> std::io::Result<()> {
        let mut shaper = self.lock();
        loop {
            let now = self.epoch.elapsed();
            match (shaper.take(now), shaper.next_due()) {
                (Some(packet), _) => {
                    drop(shaper);
                    link.send(&packet)?;
                    shaper = self.lock();
                }
                (None, Some(due)) => {
                    let left = due.saturating_sub(now);
                    let woken = self.changed.wait_timeout(shaper, left);
                    shaper = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
                (None, None) => {
                    let woken = self.changed.wait(shaper);
                    shaper = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// Is the process of the links of the lab in `dir`, until it is killed.
pub fn run_links(dir: &Path, program: Program) -> Result<(), LabError> {
    let lab = Lab::open(dir, program)?;
    let mut ways = lab.ways()?;
    let epoch = Instant::now();
    let mut carried = Vec::new();
    let routers = lab.routers();
    for (number, (one, _)) in routers.iter().enumerate() {
        for (other, _) in routers.iter().skip(number + 1) {
            let here = lab.end(one, other)?;
            let there = lab.end(other, one)?;
            let ends = [(one, other, &here, &there), (other, one, &there, &here)];
            for (from, to, source, target) in ends {
                let settings = ways.of(&from.name, &to.name).cloned().unwrap_or_default();
                let way = Arc::new(Carried {
                    from: from.name.clone(),
                    to: to.name.clone(),
                    shaper: Mutex::new(Shaper::new(
                        settings,
                        u64::from_le_bytes(fresh::random_bytes()),
                    )),
                    changed: Condvar::new(),
                    epoch,
                });
                let clone = |link: &Tun| link.try_clone().map_err(files("hold a link"));
                let (source, target) = (clone(source)?, clone(target)?);
                spawn_carrier(&way, move |way| way.read(&source));
                spawn_carrier(&way, move |way| way.write(&target));
                carried.push(way);
            }
        }
    }
    let pid = i32::try_from(std::process::id()).unwrap_or_default();
    loop {
        for way in &carried {
            way.lock().set(ways.of(&way.from, &way.to).cloned().unwrap_or_default());
        }
        write_json(&lab.dir.links_now(), &Now { pid, revision: ways.revision })?;
        let before = ways.revision;
        while ways.revision == before {
            std::thread::park_timeout(LOOK_EVERY);
            ways = lab.ways()?;
        }
    }
}

/// A link that can no longer be carried ends the process: then it is cut, and seen to be.
fn spawn_carrier(
    way: &Arc<Carried>,
    work: impl FnOnce(&Carried) -> std::io::Result<()> + Send + 'static,
) {
    let way = Arc::clone(way);
    std::thread::spawn(move || {
        if let Err(error) = work(&way) {
            tracing::error!(from = way.from, to = way.to, %error, "a link broke");
            std::process::abort();
        }
    });
}

impl Lab {
    /// Makes the end of a link at router `one` that leads to `other`, with its routes.
    fn end(&self, one: &Segment, other: &Segment) -> Result<Tun, LabError> {
        let name = format!("to-{}", other.name);
        let (_, router) = self.router_of(one.gateway())?;
        let ranges: [Ipv4Net; 2] = [other.range, pod_ranges(&self.record.hosts, &other.name).0];
        router.run(|| -> Result<Tun, LabError> {
            // A packet comes in where the way back may not go out.
            set_sysctl("ipv4/conf/all/rp_filter", "0")?;
            let link = Tun::make(&name).map_err(files("make a link"))?;
            let links = Links::open()?;
            links.set_up(&name)?;
            for range in ranges {
                links.route_out(range, &name)?;
            }
            Ok(link)
        })?
    }
}
