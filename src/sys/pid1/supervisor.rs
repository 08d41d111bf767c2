//! All services of the host: loads their files, routes requests and deaths to them.
//!
//! Why synchronous: PID 1 does one thing at a time and never waits inside; what takes
//! time is a deadline that the event loop comes back for.
//! Invariant: a service file is read when the service is started, never remembered over
//! a change on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::control::{Question, refuse};
use super::order::start_order;
use super::unit::{GRACE, Unit};
use crate::sys::services::{ServiceFile, ServiceRequest};

#[derive(Debug)]
pub(super) struct Supervisor {
    service_dir: PathBuf,
    units: BTreeMap<String, Unit>,
    /// Names in the order in which they were first started.
    started: Vec<String>,
    /// When everything must have stopped; set while the host stops.
    stop_by: Option<Instant>,
}

impl Supervisor {
    pub(super) fn new(service_dir: PathBuf) -> Self {
        Self { service_dir, units: BTreeMap::new(), started: Vec::new(), stop_by: None }
    }

    /// Starts what is enabled, in order. A service that cannot start holds no other back.
    pub(super) fn start_enabled(&mut self) {
        let files = self.load_all();
        let after = files
            .iter()
            .filter(|(_, file)| file.enabled)
            .map(|(name, file)| (name.clone(), file.after.clone()))
            .collect();
        for name in start_order(&after) {
            if let Err(reason) = self.start(&name) {
                tracing::error!(service = name, reason, "cannot start");
            }
        }
    }

    fn load_all(&self) -> BTreeMap<String, ServiceFile> {
        let mut files = BTreeMap::new();
        // No directory means that nothing is installed yet.
        let Ok(entries) = std::fs::read_dir(&self.service_dir) else { return files };
        for entry in entries.flatten() {
            let path = entry.path();
            let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            match self.load(name) {
                Ok(file) => {
                    files.insert(name.to_owned(), file);
                }
                Err(reason) => tracing::error!(service = name, reason, "ignored"),
            }
        }
        files
    }

    fn load(&self, name: &str) -> Result<ServiceFile, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(format!("{name:?} is no service name"));
        }
        let path = self.service_dir.join(format!("{name}.yaml"));
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        serde_saphyr::from_str(&text)
            .map_err(|error| format!("{} is not valid: {error}", path.display()))
    }

    /// Starts by the file as it is now; `Ok(false)` when a running stop comes first.
    fn start(&mut self, name: &str) -> Result<bool, String> {
        let file = self.load(name)?;
        let unit =
            self.units.entry(name.to_owned()).or_insert_with(|| Unit::new(name, file.clone()));
        unit.set_file(file);
        let now = unit.start(Instant::now()).map_err(|error| error.to_string())?;
        if !self.started.iter().any(|one| one == name) {
            self.started.push(name.to_owned());
        }
        Ok(now)
    }

    pub(super) fn answer(&mut self, question: Question) {
        let Question { request, answer } = question;
        let now = Instant::now();
        let reply = match request {
            ServiceRequest::Start { name } => match self.start(&name) {
                Ok(_) => self.state(&name),
                Err(reason) => refuse(reason),
            },
            ServiceRequest::Status { name } => self.state(&name),
            ServiceRequest::Stop { name } => match self.units.get_mut(&name) {
                Some(unit) => return unit.stop(now, None, Some(answer)),
                None => self.state(&name),
            },
            ServiceRequest::Restart { name } => match (self.load(&name), self.units.get_mut(&name))
            {
                (Ok(file), Some(unit)) => {
                    unit.set_file(file);
                    return unit.restart(now, answer);
                }
                (Ok(_), None) => match self.start(&name) {
                    Ok(_) => self.state(&name),
                    Err(reason) => refuse(reason),
                },
                (Err(reason), _) => refuse(reason),
            },
        };
        // Who asked may have gone away.
        let _ = answer.send(reply);
    }

    fn state(&self, name: &str) -> crate::sys::services::ServiceAnswer {
        match self.units.get(name) {
            Some(unit) => unit.state(),
            None => crate::sys::services::ServiceAnswer { error: None, running: false, pid: None },
        }
    }

    /// Collects every child that ended, ours and those that others left behind.
    pub(super) fn reap(&mut self) {
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exit code {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("{signal}")),
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => continue,
            };
            let now = Instant::now();
            let owner = self.units.values_mut().find(|unit| unit.pid() == Some(pid.as_raw()));
            if let Some(unit) = owner {
                unit.died(now, &how);
            }
        }
        self.stop_next();
    }

    /// Does what is due now.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        self.units.values_mut().for_each(|unit| unit.tick(now));
        self.stop_next();
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.units.values().filter_map(Unit::deadline).min()
    }

    /// Begins to stop everything in reverse order; all must be done by `deadline`.
    pub(super) fn stop_all(&mut self, deadline: Instant) {
        self.stop_by = Some(deadline);
        // One that waits for its next start must not come up meanwhile.
        for unit in self.units.values_mut().filter(|unit| unit.pid().is_none()) {
            unit.stop(Instant::now(), None, None);
        }
        self.stop_next();
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.units.values().all(Unit::is_quiet)
    }

    /// While stopping: once one is down, the one before it is next.
    fn stop_next(&mut self) {
        let Some(deadline) = self.stop_by else { return };
        let now = Instant::now();
        let left: Duration = deadline.saturating_duration_since(now);
        for name in self.started.iter().rev() {
            let Some(unit) = self.units.get_mut(name) else { continue };
            if !unit.is_quiet() {
                return unit.stop(now, Some(left.min(GRACE)), None);
            }
        }
    }
}
