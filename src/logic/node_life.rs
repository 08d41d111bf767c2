//! When a node counts as dead.
//!
//! ```text
//!            a heartbeat that differs             silence ≥ dead_after
//!  Unheard ───────────────────────► Alive ───────────────────────► Dead
//!     └── silence ≥ dead_after ───────────────────────────────────►  │
//!                        ▲             a heartbeat that differs      │
//!                        └───────────────────────────────────────────┘
//! ```
//!
//! Why by change and not by value: the heartbeat carries the node's own wall clock, and
//! comparing wall clocks would declare a node dead because its clock is wrong. We note
//! when *we* saw the heartbeat change, on our own monotonic clock.
//! Invariants: a controller that has just started gives every node the full time before
//! it judges; a time during which *we* were deaf does not count as the node's silence.
//! When no node at all beats, the store or we are the likelier cause: then the bound is
//! three times as long, and the first beat that comes gives everybody the full time.
//! Not here: taints and evictions (controllers/node_life.rs).

use std::collections::HashMap;
use std::time::Duration;

use crate::base::limits::{
    NODE_DEAD_AFTER_MAX, NODE_HEARTBEAT, NODE_HEARTBEAT_MAX, NODE_HEARTBEATS_PER_SECOND,
};

/// The namespace of the Leases by which nodes say that they live.
pub const LEASES_NAMESPACE: &str = "kube-node-lease";

/// How often one of so many nodes says that it lives. Every heartbeat is a write, of which
/// many nodes together would make too many.
pub fn heartbeat_period(nodes: u32) -> Duration {
    let share = Duration::from_secs(1) * nodes / NODE_HEARTBEATS_PER_SECOND;
    share.clamp(NODE_HEARTBEAT, NODE_HEARTBEAT_MAX)
}

/// What is known of one node's heart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pulse {
    heartbeat: String,
    seen_at: Duration,
    /// So long a silence is death.
    dead_after: Duration,
    /// No change was seen yet by us.
    unheard: bool,
}

/// The verdict on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Check again at this time of the caller's clock.
    Alive {
        until: Duration,
    },
    /// Not judged yet: we have not listened long enough.
    Unjudged {
        until: Duration,
    },
    Dead,
}

/// Follows the heartbeats of all nodes. Times are durations since any fixed moment.
#[derive(Debug)]
pub struct NodeWatch {
    dead_after: Duration,
    pulses: HashMap<String, Pulse>,
    /// Silence before this moment proves nothing.
    deaf_until: Duration,
    /// When any node's heart was last seen to beat.
    last_beat: Duration,
}

impl NodeWatch {
    pub fn new(dead_after: Duration) -> Self {
        Self {
            dead_after,
            pulses: HashMap::new(),
            deaf_until: Duration::ZERO,
            last_beat: Duration::ZERO,
        }
    }

    /// Takes a node's current heartbeat (any text that changes with each beat), and for how
    /// long the node says that it holds, which may be longer than a silence is usually borne.
    pub fn observe(&mut self, node: &str, heartbeat: &str, holds: Option<Duration>, now: Duration) {
        let longest = NODE_DEAD_AFTER_MAX.max(self.dead_after);
        let dead_after = holds.unwrap_or_default().clamp(self.dead_after, longest);
        let pulse =
            |unheard| Pulse { heartbeat: heartbeat.to_owned(), seen_at: now, dead_after, unheard };
        match self.pulses.get_mut(node) {
            Some(known) if known.heartbeat == heartbeat => {}
            Some(known) => {
                *known = pulse(false);
                if self.all_silent(now) {
                    self.was_deaf(now);
                }
                self.last_beat = now;
            }
            None => {
                self.pulses.insert(node.to_owned(), pulse(true));
            }
        }
    }

    /// The API did not answer us until now, so nobody's silence up to now counts.
    pub fn was_deaf(&mut self, now: Duration) {
        self.deaf_until = self.deaf_until.max(now);
    }

    /// Several nodes have been heard or awaited, and none of them beats.
    fn all_silent(&self, now: Duration) -> bool {
        self.pulses.len() > 1 && now.saturating_sub(self.last_beat) >= self.dead_after / 2
    }

    /// The node is gone from the cluster.
    pub fn forget(&mut self, node: &str) {
        self.pulses.remove(node);
    }

    /// The verdict; an unknown node is unjudged.
    pub fn judge(&self, node: &str, now: Duration) -> Life {
        let Some(pulse) = self.pulses.get(node) else {
            return Life::Unjudged { until: now + self.dead_after };
        };
        let patience = if self.all_silent(now) { 3 } else { 1 };
        let until = pulse.seen_at.max(self.deaf_until) + pulse.dead_after * patience;
        if now >= until {
            Life::Dead
        } else if pulse.unheard {
            Life::Unjudged { until }
        } else {
            Life::Alive { until }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn silence_kills_and_a_beat_revives() {
        let mut watch = NodeWatch::new(S * 10);
        watch.observe("a1", "t1", None, S);
        assert_eq!(watch.judge("a1", S * 2), Life::Unjudged { until: S * 11 });
        watch.observe("a1", "t2", None, S * 3);
        watch.observe("a1", "t2", None, S * 9);
        assert_eq!(watch.judge("a1", S * 12), Life::Alive { until: S * 13 });
        assert_eq!(watch.judge("a1", S * 13), Life::Dead);
        watch.observe("a1", "t3", None, S * 20);
        assert_eq!(watch.judge("a1", S * 20), Life::Alive { until: S * 30 });
    }

    #[test]
    fn many_nodes_beat_more_slowly_and_are_given_longer() {
        let periods = [1, 400, 600, 1_000, 5_000].map(heartbeat_period);
        assert_eq!(periods, [S * 2, S * 2, S * 3, S * 5, S * 10]);
        let mut watch = NodeWatch::new(S * 10);
        for node in ["a1", "b1"] {
            watch.observe(node, "t1", Some(S * 25), S);
            watch.observe(node, "t2", Some(S * 25), S * 2);
        }
        for beat in (6..=26).step_by(4) {
            watch.observe("b1", &format!("t{beat}"), Some(S * 25), S * beat);
        }
        assert_eq!(watch.judge("a1", S * 26), Life::Alive { until: S * 27 });
        assert_eq!(watch.judge("a1", S * 27), Life::Dead);
        // Nobody lives for ever by his own word, and nobody is dead sooner for it.
        watch.observe("a1", "t3", Some(S * 1_000_000), S * 30);
        watch.observe("b1", "t4", Some(S), S * 30);
        assert_eq!(watch.judge("a1", S * 31), Life::Alive { until: S * 90 });
        assert_eq!(watch.judge("b1", S * 31), Life::Alive { until: S * 40 });
    }

    #[test]
    fn our_own_deafness_is_not_the_nodes_silence() {
        let mut watch = NodeWatch::new(S * 10);
        watch.observe("a1", "t1", None, S);
        watch.observe("a1", "t2", None, S * 2);
        watch.was_deaf(S * 60);
        assert_eq!(watch.judge("a1", S * 61), Life::Alive { until: S * 70 });
        assert_eq!(watch.judge("a1", S * 70), Life::Dead);
    }

    #[test]
    fn a_clock_that_jumps_back_is_a_beat_too() {
        let mut watch = NodeWatch::new(S * 10);
        watch.observe("a1", "2030", None, S);
        watch.observe("a1", "2020", None, S * 8);
        assert_eq!(watch.judge("a1", S * 12), Life::Alive { until: S * 18 });
    }

    #[test]
    fn when_all_are_silent_nobody_is_judged_soon_and_the_first_beat_gives_time_to_all() {
        let mut watch = NodeWatch::new(S * 10);
        for node in ["a1", "b1", "c1"] {
            watch.observe(node, "t1", None, S);
            watch.observe(node, "t2", None, S * 2);
        }
        assert!(matches!(watch.judge("a1", S * 13), Life::Alive { .. }));
        watch.observe("b1", "t3", None, S * 20);
        assert_eq!(watch.judge("a1", S * 20), Life::Alive { until: S * 30 });
        assert_eq!(watch.judge("c1", S * 20), Life::Alive { until: S * 30 });
        for second in 21..30 {
            watch.observe("b1", &second.to_string(), None, S * second);
        }
        assert_eq!(watch.judge("a1", S * 30), Life::Dead);
    }

    proptest! {
        /// Whatever beats arrive, a node is dead exactly if its last change is older
        /// than the bound.
        #[test]
        fn dead_means_silent_for_the_bound(
            beats in prop::collection::vec((1_u64..8, any::<bool>()), 1..40),
        ) {
            let mut watch = NodeWatch::new(S * 10);
            let (mut now, mut count, mut changed) = (0, 0, 0);
            watch.observe("n", "0", None, Duration::ZERO);
            for (step, beat) in beats {
                now += step;
                if beat { count += 1; changed = now; }
                watch.observe("n", &count.to_string(), None, S * now as u32);
                let dead = watch.judge("n", S * now as u32) == Life::Dead;
                prop_assert_eq!(dead, now - changed >= 10);
            }
        }
    }
}
