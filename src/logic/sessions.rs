//! Who is signed in at this node's admin page, and for how long.
//!
//! Why in memory of one node: a session is worth what its user may do, so it must not be
//! readable from the store nor from a snapshot of it, and must work without a majority.
//! Invariants: an id is never kept, only its SHA-256; a session ends at its absolute end
//! whatever its user does, and earlier after idleness; nothing but the server names ids.
//! Not here: ids (`sys/fresh`), cookies and who may sign in (`api/admin`).

use std::collections::HashMap;

/// SHA-256 of a session's id.
pub type Digest = [u8; 32];

/// How long sessions live and how many there may be; times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    pub idle_ms: u64,
    pub absolute_ms: u64,
    /// Sessions of one owner; the oldest goes when there is one more.
    pub per_owner: usize,
}

#[derive(Debug)]
struct Entry<T> {
    owner: String,
    opened_ms: u64,
    used_ms: u64,
    held: T,
}

/// The sessions of one node.
#[derive(Debug)]
pub struct Sessions<T> {
    limits: SessionLimits,
    entries: HashMap<Digest, Entry<T>>,
}

impl<T> Sessions<T> {
    pub fn new(limits: SessionLimits) -> Self {
        Self { limits, entries: HashMap::new() }
    }

    fn lives(&self, entry: &Entry<T>, now_ms: u64) -> bool {
        now_ms < entry.opened_ms + self.limits.absolute_ms
            && now_ms < entry.used_ms + self.limits.idle_ms
    }

    /// What is over, taken out.
    pub fn expired(&mut self, now_ms: u64) -> Vec<T> {
        let over: Vec<Digest> = self
            .entries
            .iter()
            .filter(|(_, entry)| !self.lives(entry, now_ms))
            .map(|(digest, _)| *digest)
            .collect();
        over.iter().filter_map(|digest| self.close(digest)).collect()
    }

    /// Opens a session; returns those that had to make room.
    pub fn open(&mut self, digest: Digest, owner: &str, held: T, now_ms: u64) -> Vec<T> {
        let mut own: Vec<(u64, Digest)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.owner == owner)
            .map(|(digest, entry)| (entry.opened_ms, *digest))
            .collect();
        own.sort_unstable();
        let over = (own.len() + 1).saturating_sub(self.limits.per_owner);
        let gone = own[..over].iter().filter_map(|(_, digest)| self.close(digest)).collect();
        let entry = Entry { owner: owner.to_owned(), opened_ms: now_ms, used_ms: now_ms, held };
        self.entries.insert(digest, entry);
        gone
    }

    /// The session of this id, if it lives; `used` says that its user did something.
    pub fn find(&mut self, digest: &Digest, now_ms: u64, used: bool) -> Option<&T> {
        let lives = self.entries.get(digest).is_some_and(|entry| self.lives(entry, now_ms));
        let entry = self.entries.get_mut(digest).filter(|_| lives)?;
        if used {
            entry.used_ms = now_ms;
        }
        Some(&entry.held)
    }

    /// How long it lives at most, milliseconds.
    pub fn remaining_ms(&self, digest: &Digest, now_ms: u64) -> u64 {
        let end = self.entries.get(digest).map(|entry| entry.opened_ms + self.limits.absolute_ms);
        end.unwrap_or_default().saturating_sub(now_ms)
    }

    pub fn close(&mut self, digest: &Digest) -> Option<T> {
        self.entries.remove(digest).map(|entry| entry.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SessionLimits =
        SessionLimits { idle_ms: 1_000, absolute_ms: 5_000, per_owner: 2 };

    #[test]
    fn idleness_ends_a_session_and_watching_does_not_prolong_it() {
        let mut sessions = Sessions::new(LIMITS);
        sessions.open([1; 32], "jane", "held", 0);
        assert_eq!(sessions.find(&[1; 32], 900, true), Some(&"held"));
        assert_eq!(sessions.find(&[1; 32], 1_800, false), Some(&"held"));
        assert_eq!(sessions.find(&[1; 32], 1_900, true), None, "idle since 900");
        assert_eq!(sessions.expired(1_900), ["held"]);
        assert_eq!(sessions.find(&[1; 32], 950, true), None, "what is over stays over");
    }

    #[test]
    fn no_use_carries_a_session_over_its_absolute_end() {
        let mut sessions = Sessions::new(LIMITS);
        sessions.open([1; 32], "jane", (), 0);
        for now in (500..5_000).step_by(500) {
            assert!(sessions.find(&[1; 32], now, true).is_some(), "{now}");
        }
        assert_eq!(sessions.remaining_ms(&[1; 32], 4_500), 500);
        assert!(sessions.find(&[1; 32], 5_000, true).is_none());
    }

    #[test]
    fn an_owner_has_so_many_and_others_keep_theirs() {
        let mut sessions = Sessions::new(LIMITS);
        sessions.open([9; 32], "joe", 9, 0);
        for number in 1..=3_u8 {
            let gone = sessions.open([number; 32], "jane", number, u64::from(number));
            assert_eq!(gone, if number == 3 { vec![1] } else { vec![] });
        }
        assert!(sessions.find(&[9; 32], 10, false).is_some());
        assert!(sessions.find(&[1; 32], 10, false).is_none());
    }

    #[test]
    fn a_closed_session_cannot_be_used_again() {
        let mut sessions = Sessions::new(LIMITS);
        sessions.open([1; 32], "jane", (), 0);
        assert!(sessions.close(&[1; 32]).is_some());
        assert!(sessions.find(&[1; 32], 1, true).is_none());
        assert!(sessions.close(&[1; 32]).is_none());
    }
}
