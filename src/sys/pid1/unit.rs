//! One service under PID 1: its file, its process, and its life.
//!
//! ```text
//!            start                    dies                 time is up
//!  Stopped ────────► Running ───────────────► Waiting ──────────────► Running
//!     ▲                 │ stop                   │ stop
//!     └── dies ── Stopping (SIGTERM, later SIGKILL)
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use super::order::{HEALTHY_AFTER, wait_before_restart};
use crate::base::limits::SHUTDOWN_DEADLINE;
use crate::sys::services::{KillMode, ServiceAnswer, ServiceFile};

/// How long a service may take after SIGTERM; a little more than it gives itself.
pub(super) const GRACE: Duration = SHUTDOWN_DEADLINE.saturating_add(Duration::from_secs(2));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Stopped,
    Running { pid: i32, since: Instant },
    Stopping { pid: i32, kill_at: Instant },
    Waiting { until: Instant },
}

#[derive(Debug)]
pub(super) struct Unit {
    name: String,
    file: ServiceFile,
    life: Life,
    deaths: u32,
    /// Start again when the running stop is done.
    start_after_stop: bool,
    /// Who waits for the running stop.
    waiters: Vec<oneshot::Sender<ServiceAnswer>>,
}

impl Unit {
    pub(super) fn new(name: &str, file: ServiceFile) -> Self {
        Self {
            name: name.to_owned(),
            file,
            life: Life::Stopped,
            deaths: 0,
            start_after_stop: false,
            waiters: Vec::new(),
        }
    }

    /// Takes a changed service file; a running process keeps what it was started with.
    pub(super) fn set_file(&mut self, file: ServiceFile) {
        self.file = file;
    }

    pub(super) fn pid(&self) -> Option<i32> {
        match self.life {
            Life::Running { pid, .. } | Life::Stopping { pid, .. } => Some(pid),
            Life::Stopped | Life::Waiting { .. } => None,
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.life == Life::Stopped
    }

    pub(super) fn state(&self) -> ServiceAnswer {
        let running = matches!(self.life, Life::Running { .. });
        ServiceAnswer { error: None, running, pid: self.pid() }
    }

    /// When [`Unit::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.life {
            Life::Waiting { until } => Some(until),
            Life::Stopping { kill_at, .. } => Some(kill_at),
            Life::Stopped | Life::Running { .. } => None,
        }
    }

    /// Starts it unless it runs. While it is being stopped, `false` says that the start
    /// follows the stop.
    pub(super) fn start(&mut self, now: Instant) -> io::Result<bool> {
        match self.life {
            Life::Running { .. } => Ok(true),
            Life::Stopping { .. } => {
                self.start_after_stop = true;
                Ok(false)
            }
            Life::Stopped | Life::Waiting { .. } => self.spawn(now).map(|()| true),
        }
    }

    fn spawn(&mut self, now: Instant) -> io::Result<()> {
        let (program, arguments) = self
            .file
            .command
            .split_first()
            .ok_or_else(|| io::Error::other("the service file names no command"))?;
        for dir in &self.file.runtime_dirs {
            fs::create_dir_all(dir)?;
        }
        let log = open_log(&self.file.log)?;
        let errors = log.try_clone()?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin")
            .env("HOME", "/root")
            .envs(&self.file.environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()?;
        // The handle is dropped on purpose: PID 1 reaps every child itself.
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        tracing::info!(service = self.name, pid, "started");
        self.life = Life::Running { pid, since: now };
        Ok(())
    }

    /// Begins to stop it; `waiter` hears when it is done.
    pub(super) fn stop(
        &mut self,
        now: Instant,
        grace: Option<Duration>,
        waiter: Option<oneshot::Sender<ServiceAnswer>>,
    ) {
        self.start_after_stop = false;
        self.waiters.extend(waiter);
        match self.life {
            Life::Running { pid, .. } => {
                self.signal(pid, Signal::SIGTERM);
                self.life = Life::Stopping { pid, kill_at: now + grace.unwrap_or(GRACE) };
            }
            Life::Stopping { .. } => {}
            Life::Stopped | Life::Waiting { .. } => self.settle(),
        }
    }

    /// Stops it and starts it again.
    pub(super) fn restart(&mut self, now: Instant, waiter: oneshot::Sender<ServiceAnswer>) {
        if self.pid().is_some() {
            self.stop(now, None, Some(waiter));
            self.start_after_stop = true;
            return;
        }
        self.waiters.push(waiter);
        self.start_after_stop = true;
        self.life = Life::Stopped;
        self.finish(now);
    }

    /// Its main process ended.
    pub(super) fn died(&mut self, now: Instant, how: &str) {
        match self.life {
            Life::Stopping { pid, .. } => {
                if self.file.kill_mode == KillMode::Group {
                    // Members that outlived their leader; there may be none.
                    let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
                }
                tracing::info!(service = self.name, how, "stopped");
                self.life = Life::Stopped;
                self.deaths = 0;
                self.finish(now);
            }
            Life::Running { since, .. } => {
                if now.duration_since(since) >= HEALTHY_AFTER {
                    self.deaths = 0;
                }
                self.fail(now, how);
            }
            Life::Stopped | Life::Waiting { .. } => {}
        }
    }

    fn fail(&mut self, now: Instant, how: &str) {
        self.deaths = self.deaths.saturating_add(1);
        let wait = wait_before_restart(self.deaths);
        tracing::warn!(service = self.name, how, wait_ms = wait.as_millis() as u64, "died");
        self.life = Life::Waiting { until: now + wait };
    }

    /// Does what is due: a start after a wait, a kill after the grace period.
    pub(super) fn tick(&mut self, now: Instant) {
        match self.life {
            Life::Waiting { until } if now >= until => {
                if let Err(error) = self.spawn(now) {
                    self.fail(now, &error.to_string());
                }
            }
            Life::Stopping { pid, kill_at } if now >= kill_at => {
                tracing::warn!(service = self.name, pid, "did not stop in time, killed");
                self.signal(pid, Signal::SIGKILL);
                // Asked again soon, should the kernel be slow to end it.
                self.life = Life::Stopping { pid, kill_at: now + Duration::from_secs(1) };
            }
            _ => {}
        }
    }

    /// The stop is done: starts again when asked to, then tells who waits.
    fn finish(&mut self, now: Instant) {
        let mut error = None;
        if std::mem::take(&mut self.start_after_stop)
            && let Err(failed) = self.spawn(now)
        {
            error = Some(failed.to_string());
        }
        for waiter in self.waiters.drain(..) {
            let running = matches!(self.life, Life::Running { .. });
            let pid = match self.life {
                Life::Running { pid, .. } => Some(pid),
                _ => None,
            };
            // Who asked may have gone away.
            let _ = waiter.send(ServiceAnswer { error: error.clone(), running, pid });
        }
    }

    fn settle(&mut self) {
        self.life = Life::Stopped;
        self.deaths = 0;
        self.finish(Instant::now());
    }

    fn signal(&self, pid: i32, signal: Signal) {
        let pid = Pid::from_raw(pid);
        // A process that is gone already is reaped by the next round.
        let _ = match self.file.kill_mode {
            KillMode::Process => kill(pid, signal),
            KillMode::Group => killpg(pid, signal),
        };
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}
