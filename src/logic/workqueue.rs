//! The order in which keys are worked on: once each, never two workers on one key.
//!
//! ```text
//!            add              next               done
//! (unknown) ─────► waiting ─────────► working ─────────► (unknown)
//!                     ▲                  │ add while working: dirty
//!                     └──────────────────┘ done while dirty
//! later(key, at) ──► timer ──► as add once `at` is reached
//! ```
//! A key that is worked on again and again beyond its [`Pace`] rests before it is done, so
//! that what comes meanwhile is one piece of work: a set of a thousand pods hears of each of
//! them, and needs not count all of them for each.
//!
//! Why pure: the clock is a parameter, so every order of calls can be tested.
//! Invariants: a key added while it is worked on is worked on again afterwards; a key is
//! waiting at most once; of several timers of a key the earliest counts.
//! Not here: waiting and workers (controllers/runner.rs).

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// How often one key is worked on: so many times at once, and then once in `every`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub burst: u32,
    pub every: Duration,
}

/// Keys whose use of the pace is remembered before those that have it all back are looked for.
const SPENT_MAX: usize = 1_024;

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
    pace: Option<Pace>,
    /// How often each key was worked on beyond what time has given back, and since when.
    spent: HashMap<K, (u32, Duration)>,
    /// Keys that are done when their time comes.
    resting: BTreeSet<(Duration, K)>,
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
            pace: None,
            spent: HashMap::new(),
            resting: BTreeSet::new(),
        }
    }

    /// The same with a pace that no key exceeds.
    pub fn paced(self, pace: Option<Pace>) -> Self {
        Self { pace: pace.filter(|pace| !pace.every.is_zero()), ..self }
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
        let timers = [self.timers.first(), self.resting.first()];
        timers.into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// Work on the key succeeded.
    pub fn done(&mut self, key: &K, now: Duration) {
        self.failures.remove(key);
        match self.rest_of(key, now) {
            Some(until) => drop(self.resting.insert((until, key.clone()))),
            None => self.release(key),
        }
    }

    /// Until when the key rests after this piece of work.
    fn rest_of(&mut self, key: &K, now: Duration) -> Option<Duration> {
        let Pace { burst, every } = self.pace?;
        let given_back = |since: Duration| {
            let times = now.saturating_sub(since).as_nanos() / every.as_nanos();
            u32::try_from(times).unwrap_or(u32::MAX)
        };
        if self.spent.len() >= SPENT_MAX {
            self.spent.retain(|_, (used, since)| *used > given_back(*since));
        }
        let (used, since) = self.spent.entry(key.clone()).or_insert((0, now));
        let back = given_back(*since);
        if back >= *used {
            (*used, *since) = (0, now);
        } else {
            *used -= back;
            *since += every.saturating_mul(back);
        }
        *used += 1;
        (*used > burst).then_some(*since + every)
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
        while let Some((until, _)) = self.resting.first()
            && *until <= now
        {
            let (_, key) = self.resting.pop_first().expect("it was just looked at");
            self.release(&key);
        }
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
        self.waiting.is_empty()
            && self.working.len() == self.resting.len()
            && self.dirty.is_empty()
            && self.timers.is_empty()
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
        queue.done(&1, MS);
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
        queue.done(&1, now);
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
        queue.done(&1, MS * 20);
        assert!(queue.is_idle());
    }

    #[test]
    fn a_key_beyond_its_pace_rests_and_is_then_worked_once() {
        let mut queue = queue().paced(Some(Pace { burst: 2, every: MS * 10 }));
        let work = |queue: &mut WorkQueue<u8>, now| {
            queue.add(1);
            let found = queue.next(now);
            if let Some(key) = found {
                queue.done(&key, now);
            }
            found.is_some()
        };
        assert!(work(&mut queue, MS) && work(&mut queue, MS * 2) && work(&mut queue, MS * 3));
        assert!(!work(&mut queue, MS * 4), "the third was one too many");
        assert!(!work(&mut queue, MS * 5));
        assert_eq!(queue.next_timer(), Some(MS * 11), "a period after the first");
        assert!(!queue.is_idle(), "there is work for it");
        queue.add(2);
        assert_eq!(queue.next(MS * 6), Some(2), "others do not rest");
        queue.done(&2, MS * 6);
        assert_eq!(queue.next(MS * 11), Some(1));
        assert_eq!(queue.next(MS * 11), None, "what came meanwhile was one piece");
        queue.done(&1, MS * 11);
        assert_eq!(queue.next_timer(), Some(MS * 21));
        assert_eq!(queue.next(MS * 21), None);
        assert!(queue.is_idle());
        let later = MS * 1_000;
        assert!(work(&mut queue, later) && work(&mut queue, later), "it has its burst again");
    }

    proptest! {
        /// However calls interleave, no key is handed out twice at once, and every key
        /// that was added after its last start is handed out again.
        #[test]
        fn no_key_is_lost_or_doubled(
            calls in prop::collection::vec((0_u8..4, 0_u8..5), 1..200),
            paced: bool,
        ) {
            let pace = Pace { burst: 1, every: MS * 7 };
            let mut queue = queue().paced(paced.then_some(pace));
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
                    2 => if working.remove(&key) { queue.done(&key, now); }
                    _ => if working.remove(&key) { queue.failed(&key, now); owed.insert(key); }
                }
            }
            for key in working.drain() { queue.done(&key, now); }
            now += MS * 1_000;
            while let Some(key) = queue.next(now) { owed.remove(&key); queue.done(&key, now); }
            prop_assert!(owed.is_empty(), "lost: {owed:?}");
            prop_assert!(queue.is_idle());
        }
    }
}
