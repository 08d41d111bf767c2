//! The lab's daemon: forwarders from 127.0.0.1 of the machine into the lab.
//!
//! Why a process of its own: hosts and their network live without it; when it dies, the
//! next `lab up` or `lab fault start` starts it again on the same ports.
//! Invariant: it listens on the loopback address only.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::error::{LabError, files};
use super::host::host_group;
use super::layout::HostPlan;
use super::record::{Forwards, Record};
use super::{Lab, Program};
use crate::sys::cgroup::Group;
use crate::sys::forward::{Forwarder, Target, listen_on_loopback};
use crate::sys::tree;
use crate::sys::waiting::wait_until;

/// Its control group below the lab's.
const GROUP: &str = "daemon";
/// How long it may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often the daemon looks which hosts run.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Services that are reached through forwarders, by their port on the hosts.
const SERVICES: [(&str, u16); 3] = [("api", 6443), ("registry", 5000), ("etcd", 2379)];

impl Lab {
    pub(super) fn daemon_pid(&self) -> Option<i32> {
        self.record.group.child(GROUP).processes().into_iter().next()
    }

    /// Starts the daemon unless it runs; returns when its ports are open.
    pub(super) fn ensure_daemon(&self) -> Result<Forwards, LabError> {
        if self.daemon_pid().is_none() {
            self.start_in(&self.record.group.child(GROUP), "daemon", "the daemon")?;
        }
        let mut forwards = None;
        wait_until(START_LIMIT, Duration::from_millis(10), || {
            let daemon = self.daemon_pid().and_then(|pid| u32::try_from(pid).ok());
            forwards = self.dir.read_forwards().ok().flatten();
            forwards.as_ref().is_some_and(|found| Some(found.daemon_pid) == daemon)
        });
        let daemon = self.daemon_pid().and_then(|pid| u32::try_from(pid).ok());
        match forwards {
            Some(found) if Some(found.daemon_pid) == daemon => Ok(found),
            _ => Err(LabError::Silent {
                what: "the lab's daemon".to_owned(),
                limit_seconds: START_LIMIT.as_secs(),
                log: tree::tail(&self.dir.daemon_log(), 20).unwrap_or_default(),
            }),
        }
    }
}

/// Is the daemon of the lab in `dir`, until SIGTERM.
pub fn run_daemon(dir: &Path, program: Program) -> Result<(), LabError> {
    let lab = Lab::open(dir, program)?;
    let before = lab.dir.read_forwards()?.unwrap_or_default();
    // The listeners are opened here, in the machine's network namespace.
    let health = Health::new(&lab.record);
    let (forwards, forwarders) = open(&lab.record, &health, &before)?;
    lab.dir.write_forwards(&forwards)?;
    let switch = lab.switch()?;
    // What this thread opens from here on is inside the lab.
    let work = move || {
        switch.enter()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(files("start the daemon's event loop"))?;
        runtime.block_on(serve(health, forwarders)).map_err(files("serve the lab's ports"))
    };
    match std::thread::spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Which hosts run, looked at again and again.
struct Health(Vec<(String, Group, watch::Sender<bool>)>);

impl Health {
    fn new(record: &Record) -> Self {
        let host = |host: &HostPlan| {
            let group = host_group(&record.group, &host.name);
            let usable = watch::Sender::new(is_up(&group));
            (host.name.clone(), group, usable)
        };
        Self(record.hosts.iter().map(host).collect())
    }

    fn of(&self, host: &str) -> watch::Receiver<bool> {
        match self.0.iter().find(|(name, _, _)| name == host) {
            Some((_, _, usable)) => usable.subscribe(),
            // Both are made from the same record.
            None => watch::Sender::new(false).subscribe(),
        }
    }

    async fn run(self, cancel: CancellationToken) -> io::Result<()> {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = tick.tick() => {}
            }
            for (_, group, usable) in &self.0 {
                let now = is_up(group);
                usable.send_if_modified(|before| std::mem::replace(before, now) != now);
            }
        }
    }
}

/// A stopped host counts as down: its kernel would still take connections that nobody
/// answers.
fn is_up(group: &Group) -> bool {
    group.is_inhabited() && !group.is_frozen()
}

async fn serve(health: Health, forwarders: Vec<Forwarder>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let cancel = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut tasks = JoinSet::new();
    tasks.spawn(health.run(cancel.clone()));
    for forwarder in forwarders {
        tasks.spawn(forwarder.run(cancel.clone()));
    }
    let result = tokio::select! {
        _ = terminate.recv() => Ok(()),
        Some(ended) = tasks.join_next() => ended.unwrap_or_else(|broken| Err(io::Error::other(broken))),
    };
    cancel.cancel();
    while tasks.join_next().await.is_some() {}
    result
}

/// Opens every listener, on the ports of `before` where they are free.
fn open(
    record: &Record,
    health: &Health,
    before: &Forwards,
) -> Result<(Forwards, Vec<Forwarder>), LabError> {
    let mut forwards = Forwards { daemon_pid: std::process::id(), ..Forwards::default() };
    let mut forwarders = Vec::new();
    let mut add = |wanted: Option<u16>, targets: Vec<Target>| -> Result<u16, LabError> {
        let listener = listen_on_loopback(wanted).map_err(files("listen on 127.0.0.1"))?;
        let port = listener.local_addr().map_err(files("listen on 127.0.0.1"))?.port();
        forwarders.push(Forwarder::new(listener, targets));
        Ok(port)
    };
    for host in &record.hosts {
        let old = before.hosts.get(&host.name);
        let mut ports = BTreeMap::new();
        for (service, port) in SERVICES {
            let wanted = old.and_then(|old| old.get(service)).copied();
            ports.insert(service.to_owned(), add(wanted, vec![target(health, host, port)])?);
        }
        forwards.hosts.insert(host.name.clone(), ports);
    }
    for (service, port) in SERVICES {
        let targets = record.hosts.iter().map(|host| target(health, host, port)).collect();
        let wanted = before.any.get(service).copied();
        forwards.any.insert(service.to_owned(), add(wanted, targets)?);
    }
    Ok((forwards, forwarders))
}

fn target(health: &Health, host: &HostPlan, port: u16) -> Target {
    Target { address: SocketAddr::from((host.address, port)), usable: health.of(&host.name) }
}
