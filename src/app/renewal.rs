//! Keeps the node's certificates fresh, and takes new ones into use without a restart.
//!
//! ```text
//! at the start, then every minute: due? ─► renew ─► files
//! every few seconds: another certificate in the files? ─► next handshakes, engine
//! ```
//! Why the files are looked at: `holdfast certificate rotate` and an operator's own hand are
//! then the same as a renewal from here.
//! Invariant: connections that stand are not touched.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::control_nodes::{WasRemoved, known, note_removal, registries, tell_engine};
use crate::base::chain::chain;
use crate::install::ports::Remote;
use crate::install::renewal::{RenewalError, Which, renew};
use crate::model::node_config::NodeConfig;
use crate::sys::tls::TlsIdentity;
use crate::sys::{clock, files};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often what is due is renewed, and renewing is tried again.
const RENEW: Duration = Duration::from_secs(60);

pub(super) struct Renewal {
    pub(super) config: Arc<NodeConfig>,
    pub(super) identity: TlsIdentity,
    pub(super) remote: Arc<dyn Remote>,
}

impl Renewal {
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<(), WasRemoved> {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = Instant::now();
        let mut used = None;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = tick.tick() => {}
            }
            if Instant::now() >= next {
                next = Instant::now() + RENEW;
                tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    done = self.renew() => done?,
                }
            }
            // What was put there may be due itself.
            if self.take_up(&mut used) {
                next = Instant::now();
            }
        }
    }

    async fn renew(&self) -> Result<(), WasRemoved> {
        let (config, servers) = (&self.config, known(&self.config));
        match renew(config, Which::Due, &servers, self.remote.as_ref(), clock::now()).await {
            Ok(renewed) if renewed.is_empty() => {}
            Ok(renewed) => tracing::info!(?renewed, "certificates renewed"),
            Err(RenewalError::Removed) => {
                // With a certificate that has ended nobody else would tell it.
                note_removal(config, "a control node renews no certificate for it");
                return Err(WasRemoved);
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "a certificate is due and is not renewed");
            }
        }
        Ok(())
    }

    /// Takes up what stands in the files, if it is not in use already; whether it did.
    fn take_up(&self, used: &mut Option<Vec<u8>>) -> bool {
        let path = self.config.paths.pki().join("node.crt");
        let Ok(found) = files::read(&path) else { return false };
        if used.as_ref() == Some(&found) {
            return false;
        }
        if let Err(error) = self.identity.reload() {
            // A file that is half written by hand is looked at again.
            tracing::warn!(error = chain(&error), "the node's certificate cannot be used");
            return false;
        }
        if !tell_engine(&self.config, &registries(&self.config)) {
            return false;
        }
        if used.replace(found).is_some() {
            tracing::info!("another certificate is in use");
        }
        true
    }
}
