//! systemd as a [`ServiceManager`], by `systemctl`.
//!
//! Why the program and not D-Bus: it is present wherever systemd is, needs no library,
//! and its error text is what operators know.

use std::time::Duration;

use async_trait::async_trait;

use crate::sys::process::{Finished, Program};
use crate::sys::services::{ServiceError, ServiceManager};

/// How long one request may take; a service's own start limit is 90 s by default.
const REQUEST_DEADLINE: Duration = Duration::from_secs(120);

/// The host's systemd.
#[derive(Clone, Copy, Debug, Default)]
pub struct Systemd;

async fn systemctl(action: &'static str, arguments: &[&str]) -> Result<Finished, ServiceError> {
    let mut argv = vec!["systemctl", "--no-ask-password"];
    argv.extend_from_slice(arguments);
    let name = arguments.last().copied().unwrap_or_default().to_owned();
    Program::new(&argv).run(REQUEST_DEADLINE).await.map_err(|error| ServiceError::Refused {
        action,
        name,
        reason: crate::base::chain::chain(&error),
    })
}

async fn demand(action: &'static str, arguments: &[&str]) -> Result<(), ServiceError> {
    let finished = systemctl(action, arguments).await?;
    if finished.code == 0 {
        return Ok(());
    }
    let name = arguments.last().copied().unwrap_or_default().to_owned();
    Err(ServiceError::Refused { action, name, reason: finished.stderr.trim().to_owned() })
}

impl Systemd {
    /// Whether systemd is this host's PID 1.
    pub fn is_running_here() -> bool {
        std::path::Path::new("/run/systemd/system").is_dir()
    }

    /// Makes systemd read its unit files again.
    pub async fn reload_units(&self) -> Result<(), ServiceError> {
        demand("reload units for", &["daemon-reload"]).await
    }

    /// Whether the unit starts at boot.
    pub async fn is_enabled(&self, name: &str) -> Result<bool, ServiceError> {
        Ok(systemctl("ask about", &["is-enabled", "--quiet", name]).await?.code == 0)
    }

    /// Makes the unit start at boot, or not.
    pub async fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), ServiceError> {
        let verb = if enabled { "enable" } else { "disable" };
        demand(verb, &[verb, "--quiet", name]).await
    }
}

#[async_trait]
impl ServiceManager for Systemd {
    fn name(&self) -> &'static str {
        "systemd"
    }

    async fn start(&self, name: &str) -> Result<(), ServiceError> {
        demand("start", &["start", name]).await
    }

    async fn stop(&self, name: &str) -> Result<(), ServiceError> {
        let finished = systemctl("stop", &["stop", name]).await?;
        // 5: the unit is not loaded, which is as stopped as it gets.
        if finished.code == 0 || finished.code == 5 {
            return Ok(());
        }
        let reason = finished.stderr.trim().to_owned();
        Err(ServiceError::Refused { action: "stop", name: name.to_owned(), reason })
    }

    async fn restart(&self, name: &str) -> Result<(), ServiceError> {
        demand("restart", &["restart", name]).await
    }

    async fn is_running(&self, name: &str) -> Result<bool, ServiceError> {
        Ok(systemctl("ask about", &["is-active", "--quiet", name]).await?.code == 0)
    }
}
