//! The order in which keys are worked on: once each, never two workers on one key.
//!
//! ```text
//!            add              next               done
//! (unknown) ─────► waiting ─────────► working ─────────► (unknown)
//!                     ▲                  │ add while working: dirty
//!                     └──────────────────┘ done while dirty
//! later(key, at) ──► timer ──► as add once `at` is reached
//! ```
//!
//! Why pure: the clock is a parameter, so every order of calls can be tested.
//! Invariants: a key added while it is worked on is worked on again afterwards; a key is
//! waiting at most once; of several timers of a key the earliest counts.
//! Not here: waiting and workers (controllers/runner.rs).

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// A work queue; times are durations since any fixed moment.
#[derive(Debug)]
pub struct WorkQueue<K> {
    waiting: VecDeque<K>,
    queued: HashSet<K>,
    working: HashSet<K>,
    dirty: HashSet<K>,
    timers: BTreeSet<(Duration, K)>,
    due: HashMap<K, Duration>,
    failures: HashMap<K, u32>,
    backoff_min: Duration,
    backoff_max: Duration,
}

impl<K: Clone + Eq + Hash + Ord> WorkQueue<K> {
    /// `backoff_min` doubles with every failure of a key, up to `backoff_max`.
    pub fn new(backoff_min: Duration, backoff_max: Duration) -> Self {
        Self {
            waiting: VecDeque::new(),
            queued: HashSet::new(),
            working: HashSet::new(),
            dirty: HashSet::new(),
            timers: BTreeSet::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            backoff_min,
            backoff_max,
        }
    }

    /// The key needs work now.
    pub fn add(&mut self, key: K) {
        if self.working.contains(&key) {
            self.dirty.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.waiting.push_back(key);
        }
    }

    /// The key needs work at the latest at `at`.
    pub fn add_at(&mut self, key: K, at: Duration) {
        if let Some(&held) = self.due.get(&key) {
            if held <= at {
                return;
            }
            self.timers.remove(&(held, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.timers.insert((at, key));
    }

    /// Takes the next key to work on.
    pub fn next(&mut self, now: Duration) -> Option<K> {
        self.ring(now);
        let key = self.waiting.pop_front()?;
        self.queued.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }

    /// When `next` will have something again if nothing is added.
    pub fn next_timer(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Work on the key succeeded.
    pub fn done(&mut self, key: &K) {
        self.failures.remove(key);
        self.release(key);
    }

    /// Work on the key failed: it is tried again after its back-off, which is returned.
    pub fn failed(&mut self, key: &K, now: Duration) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        let factor = 1_u32.checked_shl(*failures).unwrap_or(u32::MAX);
        *failures = (*failures + 1).min(31);
        let pause = self.backoff_min.saturating_mul(factor).min(self.backoff_max);
        self.add_at(key.clone(), now + pause);
        self.release(key);
        pause
    }

    fn release(&mut self, key: &K) {
        self.working.remove(key);
        if self.dirty.remove(key) {
            self.add(key.clone());
        }
    }

    fn ring(&mut self, now: Duration) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            let (_, key) = self.timers.pop_first().expect("it was just looked at");
            self.due.remove(&key);
            self.add(key);
        }
    }

    /// Nothing waits, nothing is worked on, no timer runs.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.working.is_empty() && self.timers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn queue() -> WorkQueue<u8> {
        WorkQueue::new(MS * 10, MS * 100)
    }

    #[test]
    fn a_key_added_twice_is_worked_once() {
        let mut queue = queue();
        queue.add(1);
        queue.add(1);
        assert_eq!(queue.next(MS), Some(1));
        assert_eq!(queue.next(MS), None);
    }

    #[test]
    fn a_key_added_during_work_is_worked_again_but_not_at_once() {
        let mut queue = queue();
        queue.add(1);
        queue.next(MS);
        queue.add(1);
        assert_eq!(queue.next(MS), None);
        queue.done(&1);
        assert_eq!(queue.next(MS), Some(1));
    }

    #[test]
    fn back_off_doubles_is_bounded_and_forgotten_on_success() {
        let mut queue = queue();
        queue.add(1);
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert_eq!(queue.next(now), Some(1));
            let pause = queue.failed(&1, now);
            assert_eq!(queue.next(now), None, "it must wait");
            now += pause;
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 100, 100]);
        assert_eq!(queue.next(now), Some(1));
        queue.done(&1);
        queue.add(1);
        queue.next(now);
        assert_eq!(queue.failed(&1, now), MS * 10);
    }

    #[test]
    fn the_earliest_timer_counts() {
        let mut queue = queue();
        queue.add_at(1, MS * 50);
        queue.add_at(1, MS * 20);
        queue.add_at(1, MS * 90);
        assert_eq!(queue.next(MS * 19), None);
        assert_eq!(queue.next_timer(), Some(MS * 20));
        assert_eq!(queue.next(MS * 20), Some(1));
        queue.done(&1);
        assert!(queue.is_idle());
    }

    proptest! {
        /// However calls interleave, no key is handed out twice at once, and every key
        /// that was added after its last start is handed out again.
        #[test]
        fn no_key_is_lost_or_doubled(calls in prop::collection::vec((0_u8..4, 0_u8..5), 1..200)) {
            let mut queue = queue();
            let mut working = HashSet::new();
            let mut owed = HashSet::new();
            let mut now = Duration::ZERO;
            for (call, key) in calls {
                now += MS;
                match call {
                    0 => { queue.add(key); owed.insert(key); }
                    1 => if let Some(key) = queue.next(now) {
                        prop_assert!(working.insert(key));
                        owed.remove(&key);
                    }
                    2 => if working.remove(&key) { queue.done(&key); }
                    _ => if working.remove(&key) { queue.failed(&key, now); owed.insert(key); }
                }
            }
            for key in working.drain() { queue.done(&key); }
            now += MS * 1_000;
            while let Some(key) = queue.next(now) { owed.remove(&key); queue.done(&key); }
            prop_assert!(owed.is_empty(), "lost: {owed:?}");
            prop_assert!(queue.is_idle());
        }
    }
}
