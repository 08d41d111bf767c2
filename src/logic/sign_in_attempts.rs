//! How often somebody may try to sign in, before he has to wait.
//!
//! ```text
//! try ─► counted ─► right: forgotten
//!            └────► wrong: stays counted; from the bound on each locks for twice as long
//! ```
//! Why a try is counted before it is judged: thousands at once would all be let in
//! otherwise, before the first of them has failed.
//! Invariant: while a key is locked nothing is judged, not even what would be right.
//! Not here: what the keys are (`api/admin`: addresses and accounts).

use std::collections::HashMap;

/// The first lock, milliseconds; each further failure doubles it.
const FIRST_LOCK_MS: u64 = 30_000;
/// The longest lock, and how long failures are remembered.
const LONGEST_LOCK_MS: u64 = 15 * 60_000;
/// Keys that are remembered; the quietest go first.
const KEYS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    tries: u32,
    last_ms: u64,
    locked_until_ms: u64,
}

/// A key and how many wrong tries it may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub bound: u32,
}

/// What was tried at one node.
#[derive(Debug, Default)]
pub struct Attempts {
    records: HashMap<String, Record>,
}

impl Attempts {
    /// Counts a try under all keys; or says for how many milliseconds none may be made.
    pub fn begin(&mut self, keys: &[Key], now_ms: u64) -> Result<(), u64> {
        let locked = |key: &Key| self.records.get(&key.name).map(|record| record.locked_until_ms);
        let until = keys.iter().filter_map(locked).max().unwrap_or_default();
        if until > now_ms {
            return Err(until - now_ms);
        }
        for key in keys {
            let record = self.records.entry(key.name.clone()).or_default();
            if record.last_ms + LONGEST_LOCK_MS <= now_ms {
                *record = Record::default();
            }
            record.tries += 1;
            record.last_ms = now_ms;
            if record.tries >= key.bound {
                let doublings = (record.tries - key.bound).min(10);
                let lock = (FIRST_LOCK_MS << doublings).min(LONGEST_LOCK_MS);
                record.locked_until_ms = now_ms + lock;
            }
        }
        self.bound(now_ms);
        Ok(())
    }

    /// The try was right: what was wrong before is forgotten.
    pub fn succeeded(&mut self, keys: &[Key]) {
        for key in keys {
            self.records.remove(&key.name);
        }
    }

    fn bound(&mut self, now_ms: u64) {
        if self.records.len() <= KEYS_MAX {
            return;
        }
        self.records.retain(|_, record| record.last_ms + LONGEST_LOCK_MS > now_ms);
        while self.records.len() > KEYS_MAX {
            let oldest = self.records.iter().min_by_key(|(_, record)| record.last_ms);
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { return };
            self.records.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, bound: u32) -> Key {
        Key { name: name.into(), bound }
    }

    #[test]
    fn the_fifth_failure_locks_and_each_further_one_for_longer() {
        let (mut attempts, keys) = (Attempts::default(), [key("10.0.0.9", 5)]);
        for _ in 0..5 {
            assert_eq!(attempts.begin(&keys, 1_000), Ok(()));
        }
        assert_eq!(attempts.begin(&keys, 1_000), Err(FIRST_LOCK_MS));
        assert_eq!(attempts.begin(&keys, 30_999), Err(1));
        assert_eq!(attempts.begin(&keys, 31_000), Ok(()));
        assert_eq!(attempts.begin(&keys, 31_000), Err(2 * FIRST_LOCK_MS));
        assert_eq!(attempts.begin(&[key("10.0.0.8", 5)], 31_000), Ok(()), "others may try");
    }

    #[test]
    fn many_at_once_are_counted_before_any_is_judged() {
        let (mut attempts, keys) = (Attempts::default(), [key("10.0.0.9", 5)]);
        let judged = (0..1_000).filter(|_| attempts.begin(&keys, 7).is_ok()).count();
        assert_eq!(judged, 5);
    }

    #[test]
    fn one_account_is_locked_however_many_addresses_try() {
        let mut attempts = Attempts::default();
        let keys = |number| [key(&format!("10.0.0.{number}"), 5), key("admin", 20)];
        let judged = (0..200).filter(|number| attempts.begin(&keys(*number), 7).is_ok()).count();
        assert_eq!(judged, 20);
    }

    #[test]
    fn success_and_time_forget() {
        let (mut attempts, keys) = (Attempts::default(), [key("10.0.0.9", 5)]);
        for _ in 0..50 {
            attempts.begin(&keys, 1).unwrap();
            attempts.succeeded(&keys);
        }
        for _ in 0..4 {
            attempts.begin(&keys, 2).unwrap();
        }
        assert_eq!(attempts.begin(&keys, 2 + LONGEST_LOCK_MS), Ok(()));
        assert_eq!(attempts.begin(&keys, 2 + LONGEST_LOCK_MS), Ok(()), "counted from one again");
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut attempts = Attempts::default();
        for number in 0..(KEYS_MAX as u64 + 50) {
            attempts.begin(&[key(&number.to_string(), 5)], number).unwrap();
        }
        assert_eq!(attempts.records.len(), KEYS_MAX);
        assert!(!attempts.records.contains_key("0"), "the oldest went");
    }
}
