//! Which reports become Events of their own, which are told together, and which are not told.
//!
//! Why: a set of a thousand pods has a thousand things to say about itself when it begins, and
//! each would be a write of the store. People read the first few and how many there were.
//! Source: `client-go/tools/record/events_cache.go`, with its numbers.
//! Invariants: about one object no more than a burst is written at once, and then one in a
//! long while, whatever happens to it; of similar reports with ever other words the tenth and
//! those after it are one Event; memory is bounded.
//! Not here: writing and counting them (`events`).

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::limits;

/// Similar reports of other words until they are told together.
const SIMILAR_MAX: usize = 10;
/// How long after one of them another counts as similar.
const SIMILAR_WITHIN: Duration = Duration::from_secs(600);
/// Writes about one object at once, and then one in so long.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);
const COMBINED: &str = "(combined from similar events): ";

/// What several reports have in common, beside their words.
pub(super) type Likeness = (String, String);

#[derive(Debug)]
struct Similar {
    messages: HashSet<String>,
    last: Instant,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// What has been told about whom.
#[derive(Debug, Default)]
pub(super) struct Correlation {
    similar: HashMap<Likeness, Similar>,
    buckets: HashMap<String, Bucket>,
}

fn make_room<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if table.len() >= limits::EVENT_QUEUE {
        table.clear();
    }
}

impl Correlation {
    /// The words to tell the report in; `None` if its own.
    pub(super) fn combined(
        &mut self,
        likeness: Likeness,
        message: &str,
        now: Instant,
    ) -> Option<String> {
        if !self.similar.contains_key(&likeness) {
            make_room(&mut self.similar);
        }
        let similar = self
            .similar
            .entry(likeness)
            .or_insert_with(|| Similar { messages: HashSet::new(), last: now });
        if now.duration_since(similar.last) > SIMILAR_WITHIN {
            similar.messages.clear();
        }
        similar.last = now;
        if similar.messages.contains(message) {
            return None;
        }
        if similar.messages.len() + 1 < SIMILAR_MAX {
            similar.messages.insert(message.to_owned());
            return None;
        }
        Some(format!("{COMBINED}{message}"))
    }

    /// Whether something may be written about the object now.
    pub(super) fn may_write(&mut self, object: &str, now: Instant) -> bool {
        if !self.buckets.contains_key(object) {
            make_room(&mut self.buckets);
        }
        let bucket = self
            .buckets
            .entry(object.to_owned())
            .or_insert_with(|| Bucket { left: BURST, at: now });
        let back = now.duration_since(bucket.at).as_secs_f64() / REFILL.as_secs_f64();
        (bucket.left, bucket.at) = ((bucket.left + back).min(BURST), now);
        let may = bucket.left >= 1.0;
        if may {
            bucket.left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likeness() -> Likeness {
        ("u1".to_owned(), "SuccessfulCreate".to_owned())
    }

    #[test]
    fn the_tenth_of_a_kind_and_later_ones_are_told_together() {
        let (mut told, now) = (Correlation::default(), Instant::now());
        let mut tell = |number: usize, now| {
            told.combined(likeness(), &format!("Created pod: web-{number}"), now)
        };
        assert!((0..9).all(|number| tell(number, now).is_none()));
        assert_eq!(tell(3, now), None, "words that were told before are counted, not combined");
        let tenth = "(combined from similar events): Created pod: web-9";
        assert_eq!(tell(9, now).as_deref(), Some(tenth));
        assert!(tell(10, now).is_some());
        let later = now + SIMILAR_WITHIN + Duration::from_secs(1);
        assert_eq!(tell(11, later), None, "those were of another time");
        let other = ("u2".to_owned(), "SuccessfulCreate".to_owned());
        assert_eq!(told.combined(other, "Created pod: api-0", now), None);
    }

    #[test]
    fn about_one_object_a_burst_is_written_and_then_little() {
        let (mut told, now) = (Correlation::default(), Instant::now());
        assert_eq!((0..100).filter(|_| told.may_write("u1", now)).count(), 25);
        assert!(told.may_write("u2", now), "another object");
        assert!(!told.may_write("u1", now + REFILL - Duration::from_secs(1)));
        let later = now + REFILL + Duration::from_secs(1);
        assert!(told.may_write("u1", later) && !told.may_write("u1", later));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut told, now) = (Correlation::default(), Instant::now());
        for number in 0..limits::EVENT_QUEUE * 2 {
            told.may_write(&number.to_string(), now);
            told.combined((number.to_string(), String::new()), "x", now);
        }
        assert!(told.buckets.len() <= limits::EVENT_QUEUE);
        assert!(told.similar.len() <= limits::EVENT_QUEUE);
    }
}
