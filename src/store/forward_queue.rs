//! Proposals that wait to be sent to the leader, and how many go in one message.
//!
//! Invariant: one message goes to one leader.
//! Not here: sending (`forward`).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::message::Unproposed;
use super::types::Reply;
use crate::base::ids::MemberId;

/// Messages under way at a time.
const LANES: usize = 4;
/// Most bytes of proposals in one message.
const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Most proposals in one message.
const MESSAGE_PROPOSALS: usize = 512;

/// What came back for one proposal.
pub(super) type Forwarded = Result<Result<Reply, Unproposed>, NotAnswered>;

/// The message brought no answer.
#[derive(Debug, Clone)]
pub(super) struct NotAnswered {
    pub(super) reason: String,
    /// Whether the proposal may be in the log all the same.
    pub(super) may_have_happened: bool,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) leader: MemberId,
    /// The command as it goes over the wire.
    pub(super) command: Bytes,
    pub(super) answer: oneshot::Sender<Forwarded>,
}

/// What waits to be sent.
#[derive(Debug, Default)]
pub(super) struct ForwardQueue {
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<Waiting>,
    lanes: usize,
}

impl ForwardQueue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().expect("no holder of the forward queue panics")
    }

    /// Queues a proposal; true if the caller must open a lane.
    pub(super) fn join(&self, waiting: Waiting) -> bool {
        let mut state = self.lock();
        state.waiting.push_back(waiting);
        let opens = state.lanes < LANES;
        state.lanes += usize::from(opens);
        opens
    }

    /// What the next message carries, all for one leader; none closes the lane.
    pub(super) fn next(&self) -> Option<Vec<Waiting>> {
        let mut state = self.lock();
        let Some(first) = state.waiting.pop_front() else {
            state.lanes -= 1;
            return None;
        };
        let (leader, mut bytes) = (first.leader, first.command.len());
        let mut batch = vec![first];
        while let Some(next) = state.waiting.front() {
            bytes += next.command.len();
            let fits = bytes <= MESSAGE_BYTES && batch.len() < MESSAGE_PROPOSALS;
            if next.leader != leader || !fits {
                break;
            }
            batch.extend(state.waiting.pop_front());
        }
        Some(batch)
    }
}
