//! One direction of a wide-area link: what a packet meets on the way. Pure.
//!
//! ```text
//! offer ─► cut? lost? ─► line (rate; a full buffer drops) ─► way (delay, jitter) ─► due
//! ```
//! Invariants: packets arrive in the order in which they were sent, as on one fibre; time is
//! the caller's. Changed settings hold for packets offered from then on.
//! Not here: reading and writing packets (`wan`).

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::settings::Direction;

/// What a router's buffer in front of a slow line holds: this long of the line's time.
const BUFFER_TIME: Duration = Duration::from_millis(100);
/// Packets under way at most, bytes; a link without a rate has the machine's memory as
/// buffer otherwise.
const UNDER_WAY_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Shaper {
    settings: Direction,
    random: SmallRng,
    /// When the line has sent what it was given.
    line_free: Duration,
    last_due: Duration,
    waiting: VecDeque<(Duration, Vec<u8>)>,
    bytes: usize,
}

impl Shaper {
    pub(super) fn new(settings: Direction, seed: u64) -> Self {
        Self {
            settings,
            random: SmallRng::seed_from_u64(seed),
            line_free: Duration::ZERO,
            last_due: Duration::ZERO,
            waiting: VecDeque::new(),
            bytes: 0,
        }
    }

    pub(super) fn set(&mut self, settings: Direction) {
        // What a slow line still had to send does not hold up a faster one.
        if settings.rate_mbit != self.settings.rate_mbit {
            self.line_free = Duration::ZERO;
        }
        self.settings = settings;
    }

    /// Takes a packet in, or drops it; answers whether it will arrive.
    pub(super) fn offer(&mut self, packet: Vec<u8>, now: Duration) -> bool {
        let settings = &self.settings;
        if settings.cut || self.random.random_bool((settings.loss_percent / 100.0).clamp(0.0, 1.0))
        {
            return false;
        }
        if self.bytes + packet.len() > UNDER_WAY_MAX {
            return false;
        }
        let mut sent = now;
        if let Some(rate) = settings.rate_mbit {
            let begins = self.line_free.max(now);
            if begins - now > BUFFER_TIME {
                return false;
            }
            let bits = packet.len() as f64 * 8.0;
            sent = begins + Duration::from_secs_f64(bits / (rate * 1e6));
            self.line_free = sent;
        }
        let spread = settings.jitter_ms * (self.random.random::<f64>() * 2.0 - 1.0);
        let way = (settings.delay_ms + spread).max(0.0) / 1e3;
        let due = (sent + Duration::from_secs_f64(way)).max(self.last_due);
        self.last_due = due;
        self.bytes += packet.len();
        self.waiting.push_back((due, packet));
        true
    }

    /// When the next packet is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// The next packet, if it is due.
    pub(super) fn take(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.next_due()? > now {
            return None;
        }
        let (_, packet) = self.waiting.pop_front()?;
        self.bytes -= packet.len();
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn plain() -> Direction {
        Direction { delay_ms: 15.0, ..Direction::default() }
    }

    #[test]
    fn a_packet_is_on_its_way_for_the_delay() {
        let mut shaper = Shaper::new(plain(), 1);
        assert!(shaper.offer(vec![7; 100], MS));
        assert_eq!(shaper.next_due(), Some(MS * 16));
        assert_eq!(shaper.take(MS * 15), None);
        assert_eq!(shaper.take(MS * 16), Some(vec![7; 100]));
        assert_eq!(shaper.next_due(), None);
    }

    #[test]
    fn a_slow_line_sends_one_after_the_other_and_drops_what_its_buffer_does_not_hold() {
        // A thousand bytes take 8 ms; the buffer holds 100 ms of them.
        let mut shaper = Shaper::new(Direction { rate_mbit: Some(1.0), ..Direction::default() }, 1);
        let taken = (0..100).filter(|_| shaper.offer(vec![0; 1_000], MS)).count();
        assert_eq!(taken, 13);
        assert_eq!(shaper.next_due(), Some(MS * 9));
        assert!(shaper.offer(vec![0; 1_000], MS * 20));
        let mut last = Duration::ZERO;
        while let Some(due) = shaper.next_due() {
            last = due;
            shaper.take(due);
        }
        assert_eq!(last, MS + MS * 8 * 14);
    }

    #[test]
    fn a_cut_link_drops_everything_and_a_lossy_one_its_part() {
        let mut shaper = Shaper::new(Direction { cut: true, ..plain() }, 1);
        assert!(!shaper.offer(vec![0], MS));
        shaper.set(Direction { loss_percent: 40.0, ..plain() });
        let arrived = (0..10_000).filter(|_| shaper.offer(vec![0], MS)).count();
        assert!((5_700..6_300).contains(&arrived), "{arrived}");
        shaper.set(Direction { loss_percent: 100.0, ..plain() });
        assert!(!shaper.offer(vec![0], MS));
    }

    #[test]
    fn a_line_that_became_faster_owes_nothing() {
        let mut shaper = Shaper::new(Direction { rate_mbit: Some(0.1), ..plain() }, 1);
        assert!(shaper.offer(vec![0; 1_000], MS));
        shaper.set(plain());
        shaper.take(MS * 1_000);
        assert!(shaper.offer(vec![1], MS * 1_000));
        assert_eq!(shaper.next_due(), Some(MS * 1_015));
    }

    proptest! {
        #[test]
        fn nothing_overtakes_and_nothing_comes_too_soon(
            seed: u64,
            jitter in 0.0..15.0f64,
            gaps in proptest::collection::vec(0u64..5_000, 1..50),
        ) {
            let mut shaper = Shaper::new(Direction { jitter_ms: jitter, ..plain() }, seed);
            let mut now = Duration::ZERO;
            for (number, gap) in gaps.iter().enumerate() {
                now += Duration::from_micros(*gap);
                prop_assert!(shaper.offer(vec![number as u8], now));
            }
            let (mut before, mut number, mut sent) = (Duration::ZERO, 0u8, Duration::ZERO);
            for gap in gaps {
                sent += Duration::from_micros(gap);
                let due = shaper.next_due().unwrap();
                prop_assert!(due >= before);
                prop_assert!(due >= sent + Duration::from_secs_f64((15.0 - jitter) / 1e3) - MS / 1_000);
                prop_assert_eq!(shaper.take(due), Some(vec![number]));
                before = due;
                number = number.wrapping_add(1);
            }
        }
    }
}
