//! Keeps the order of replication messages of which several are under way.
//!
//! Why: a leader that waited for each answer before it sent the next message would pay the
//! way there and back, and the peer's disk, for each. Messages that are under way together
//! can overtake each other, and one that reached Raft before its forerunner would look as
//! if this member had lost entries.
//!
//! ```text
//!  lane      one sender's client for this member; drawn at random
//!  session   counts up within the lane; a new one begins when something went wrong
//!  number    counts up within the session, from 0
//! ```
//!
//! Invariants: a message of a session is handed to Raft only when all before it were; one
//! whose forerunner does not come, or whose session is over, is not handed over at all.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long a message waits for those before it; the sender begins again after that.
const PATIENCE: Duration = Duration::from_millis(500);
/// Most messages of a session that are under way at a time.
pub(super) const UNDER_WAY: usize = 4;
/// Lanes that are remembered: two of each peer, and what is left of earlier leaders.
const LANES: usize = 64;

/// Where a message stands among those of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) lane: u64,
    pub(crate) session: u64,
    pub(crate) number: u64,
}

/// Its forerunner did not come, or its session is over.
#[derive(Debug, thiserror::Error)]
#[error("a replication message came out of turn")]
pub(crate) struct OutOfTurn;

#[derive(Debug)]
struct Lane {
    id: u64,
    session: u64,
    /// The number whose turn it is.
    next: u64,
}

enum Turn {
    Now,
    Later,
    Never,
}

/// The turns of all lanes.
#[derive(Debug, Default)]
pub(super) struct AppendOrder {
    /// The one used last is at the back.
    lanes: Mutex<VecDeque<Lane>>,
    passed: Notify,
}

impl AppendOrder {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Lane>> {
        self.lanes.lock().expect("no holder of the order of appends panics")
    }

    /// Begins `work` when it is the message's turn. `work` must have taken its own place in
    /// a queue when it is polled for the first time.
    pub(super) async fn in_turn<T>(
        &self,
        place: Place,
        work: impl Future<Output = T>,
    ) -> Result<T, OutOfTurn> {
        timeout(PATIENCE, self.wait(place)).await.map_err(|_| OutOfTurn)??;
        // tokio could put off a task that has done much, and with it its place in the queue.
        let mut work = pin!(tokio::task::unconstrained(work));
        let begun = futures::poll!(work.as_mut());
        self.pass(place);
        match begun {
            std::task::Poll::Ready(done) => Ok(done),
            std::task::Poll::Pending => Ok(work.await),
        }
    }

    async fn wait(&self, place: Place) -> Result<(), OutOfTurn> {
        loop {
            let mut passed = pin!(self.passed.notified());
            passed.as_mut().enable();
            match self.turn(place) {
                Turn::Now => return Ok(()),
                Turn::Never => return Err(OutOfTurn),
                Turn::Later => passed.await,
            }
        }
    }

    fn turn(&self, place: Place) -> Turn {
        let mut lanes = self.lock();
        let known = lanes.iter().position(|lane| lane.id == place.lane);
        let Some(mut lane) = known.and_then(|at| lanes.remove(at)) else {
            // The first of the lane, one that overtook it, or one of a lane from before
            // this member's start.
            match usize::try_from(place.number) {
                Ok(0) => {}
                Ok(1..UNDER_WAY) => return Turn::Later,
                _ => return Turn::Never,
            }
            if lanes.len() >= LANES {
                lanes.pop_front();
            }
            lanes.push_back(Lane { id: place.lane, session: place.session, next: 0 });
            return Turn::Now;
        };
        let turn = if place.session < lane.session {
            Turn::Never
        } else if place.session == lane.session {
            // One that came twice changes nothing and need not wait.
            if place.number <= lane.next { Turn::Now } else { Turn::Later }
        } else if place.number == 0 {
            (lane.session, lane.next) = (place.session, 0);
            Turn::Now
        } else {
            Turn::Later
        };
        lanes.push_back(lane);
        turn
    }

    fn pass(&self, place: Place) {
        for lane in self.lock().iter_mut().rev() {
            if lane.id == place.lane && lane.session == place.session {
                lane.next = lane.next.max(place.number + 1);
            }
        }
        self.passed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn place(session: u64, number: u64) -> Place {
        Place { lane: 7, session, number }
    }

    async fn begin(order: &AppendOrder, place: Place, log: &Mutex<Vec<u64>>) -> bool {
        order.in_turn(place, async { log.lock().unwrap().push(place.number) }).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn messages_that_overtake_each_other_are_begun_in_order() {
        let (order, log) = (Arc::new(AppendOrder::default()), Arc::new(Mutex::new(Vec::new())));
        let mut all = tokio::task::JoinSet::new();
        for number in [3, 1, 0, 2] {
            let (order, log) = (order.clone(), log.clone());
            all.spawn(async move { begin(&order, place(1, number), &log).await });
            tokio::task::yield_now().await;
        }
        assert!(all.join_all().await.into_iter().all(|begun| begun));
        assert_eq!(*log.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_waits_does_not_hold_up_the_next() {
        let order = AppendOrder::default();
        let (done, wait) = tokio::sync::oneshot::channel::<()>();
        let first = order.in_turn(place(1, 0), wait);
        let second = async {
            order.in_turn(place(1, 1), async {}).await.unwrap();
            done.send(()).unwrap();
        };
        let (first, ()) = tokio::join!(first, second);
        first.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_whose_forerunner_is_lost_is_never_begun() {
        let (order, log) = (AppendOrder::default(), Mutex::new(Vec::new()));
        assert!(begin(&order, place(1, 0), &log).await);
        assert!(!begin(&order, place(1, 2), &log).await);
        // The sender begins again, and what is left of before is over.
        assert!(begin(&order, place(2, 0), &log).await);
        assert!(!begin(&order, place(1, 1), &log).await);
        assert!(begin(&order, place(2, 1), &log).await);
        assert_eq!(*log.lock().unwrap(), [0, 0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_came_twice_is_not_held_up() {
        let (order, log) = (AppendOrder::default(), Mutex::new(Vec::new()));
        for number in [0, 0, 1, 0] {
            assert!(begin(&order, place(1, number), &log).await);
        }
        assert_eq!(*log.lock().unwrap(), [0, 0, 1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_are_bounded_and_apart() {
        let order = AppendOrder::default();
        for lane in 0..1_000 {
            let first = Place { lane, session: 1, number: 0 };
            order.in_turn(first, async {}).await.unwrap();
            let second = Place { lane, session: 1, number: 1 };
            order.in_turn(second, async {}).await.unwrap();
        }
        assert_eq!(order.lock().len(), LANES);
    }
}
