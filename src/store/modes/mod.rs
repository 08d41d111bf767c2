//! Drives the commit modes: how far the city may answer, what the remote center may claim.
//!
//! ```text
//!  leader    Raft's account of who holds what ─► safe index ─► own state (`state/shown`)
//!                                                     └──────► every append, or a word of
//!                                                              its own (`tell`)
//!            C silent, promises over ─► entry "fallen back"     C kept up ─► "synchronous"
//!  C         asks each second ─► promise ─► claims for 4.5 s from its question (`remote`)
//! ```
//!
//! Why apart from Raft: what is committed stays Raft's; this only says what may be shown of
//! it. With a mode that waits for nobody else none of it does anything.
//! Invariants: the rules of `logic/remote_sync`; deciding on a change and promising exclude
//! each other by one lock; what a leader knows dies with its term.

mod drive;
mod remote;
mod report;
mod tell;
mod wish;

use std::time::Duration;

pub use report::{Replication, Standing};

use super::message::{Answer, Request};
use super::outbound::CallError;
use super::shared::Shared;

impl Shared {
    /// Calls a member; the network's own deadline is not trusted to be exact. None if no
    /// answer came in time.
    async fn call_within(
        &self,
        member: u64,
        request: Request,
        deadline: Duration,
    ) -> Option<Result<Answer, CallError>> {
        let called = self.outbound.call_member(member, request, deadline);
        tokio::time::timeout(deadline, called).await.ok()
    }
}
