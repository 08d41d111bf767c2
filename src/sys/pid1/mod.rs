//! PID 1 of a host that has no other init: the lab's hosts, and the appliance.
//!
//! Why our own: a host starts from nothing but this binary, so there is no init to ask.
//!
//! ```text
//!  mount what is missing ─► loopback up ─► start services in order ─► serve requests
//!                                                                        │ SIGTERM
//!                    exit ◄─ kill what is left ◄─ stop in reverse order ◄┘
//! ```
//!
//! Invariants: every child is reaped, also those of others that were left behind; a
//! service that dies is started again, later each time.
//! Not here: what a service is (`sys/services`), which there are (install/).

mod control;
mod filesystems;
mod order;
mod supervisor;
mod unit;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::sys::netlink::{Links, NetlinkError, set_sysctl};
use crate::sys::services::{CONTROL_SOCKET, SERVICE_DIR};

use supervisor::Supervisor;

/// Requests that may wait for the supervisor.
const REQUESTS_MAX: usize = 64;
/// How long all services together may take to stop before they are killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum Pid1Error {
    #[error("cannot mount the host's file systems")]
    Mount(#[from] crate::sys::mounts::MountError),
    #[error("cannot bring the loopback link up")]
    Loopback(#[source] NetlinkError),
    #[error("cannot {action}")]
    Io {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen on {path}")]
    Listen {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn io(action: &'static str) -> impl FnOnce(io::Error) -> Pid1Error {
    move |source| Pid1Error::Io { action, source }
}

/// Where things are; the defaults are the product's, tests pass others.
#[derive(Clone, Debug)]
pub struct Pid1Config {
    pub service_dir: PathBuf,
    pub control_socket: PathBuf,
}

impl Default for Pid1Config {
    fn default() -> Self {
        Self { service_dir: SERVICE_DIR.into(), control_socket: CONTROL_SOCKET.into() }
    }
}

/// Is PID 1: returns when the host was asked to stop and everything in it has ended.
pub fn run(config: Pid1Config) -> Result<(), Pid1Error> {
    filesystems::mount_missing()?;
    filesystems::settle_own_cgroup();
    raise_file_limit();
    Links::open().and_then(|links| links.set_up("lo")).map_err(Pid1Error::Loopback)?;
    // Pods reach each other through their hosts.
    set_sysctl("ipv4/ip_forward", "1").map_err(Pid1Error::Loopback)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("start the event loop"))?;
    runtime.block_on(serve(config))?;
    end_the_rest();
    Ok(())
}

struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Pid1Error> {
        let open = |kind| signal(kind).map_err(io("listen for signals"));
        Ok(Self {
            child: open(SignalKind::child())?,
            terminate: open(SignalKind::terminate())?,
            interrupt: open(SignalKind::interrupt())?,
        })
    }
}

async fn serve(config: Pid1Config) -> Result<(), Pid1Error> {
    let mut signals = Signals::listen()?;
    let (requests, mut asked) = mpsc::channel(REQUESTS_MAX);
    let listener = control::listen(&config.control_socket)?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(control::serve(listener, requests));
    let mut supervisor = Supervisor::new(config.service_dir);
    supervisor.start_enabled();
    loop {
        let next = supervisor.next_deadline();
        tokio::select! {
            _ = signals.child.recv() => supervisor.reap(),
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            Some(question) = asked.recv() => supervisor.answer(question),
            () = until(next) => supervisor.tick(),
        }
    }
    tracing::info!("stopping all services");
    supervisor.stop_all(std::time::Instant::now() + STOP_LIMIT);
    while !supervisor.is_quiet() {
        let next = supervisor.next_deadline();
        tokio::select! {
            _ = signals.child.recv() => supervisor.reap(),
            () = until(next) => supervisor.tick(),
        }
    }
    Ok(())
}

async fn until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Kills whatever else runs in this PID namespace (containers too) and writes disks back.
fn end_the_rest() {
    if std::process::id() != 1 {
        return;
    }
    // -1 means every process but this one; there may be none.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::SIGKILL);
    while nix::sys::wait::waitpid(None, None).is_ok() {}
    nix::unistd::sync();
}

/// Services inherit this limit; registries and engines hold many files open.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    const WANTED: u64 = 1_048_576;
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let most =
            if setrlimit(Resource::RLIMIT_NOFILE, WANTED, WANTED).is_ok() { return } else { hard };
        // Without the right to raise the ceiling, take all that is allowed.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}
