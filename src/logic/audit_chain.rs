//! The chain of the audit log: each record carries the hash of the one before.
//!
//! Why a chain: whoever changes, removes or reorders a record must also change every
//! later one, and the newest hash, which an operator can keep elsewhere.
//!
//! Invariants: numbers grow by one; what verifies is what was chained, in that order, from
//! the anchor to the head.
//! Not here: reading and writing (`objects/access/audit_log`), the form (`model/audit`).

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::model::audit::{Chained, Link};

/// What of a record is hashed.
#[derive(Serialize)]
struct Hashed<'a> {
    seq: u64,
    prev: &'a str,
    revision: i64,
    record: &'a Value,
}

fn hash(seq: u64, prev: &str, revision: i64, record: &Value) -> String {
    let hashed = Hashed { seq, prev, revision, record };
    let bytes = serde_json::to_vec(&hashed).expect("JSON of JSON is always written");
    hex::encode(Sha256::digest(&bytes))
}

impl Chained {
    /// The next record after `last`.
    pub fn after(last: &Link, revision: i64, record: Value) -> Self {
        let (seq, prev) = (last.seq + 1, last.hash.clone());
        let hash = hash(seq, &prev, revision, &record);
        Self { seq, prev, revision, record, hash }
    }

    /// Its own place.
    pub fn link(&self) -> Link {
        Link { seq: self.seq, hash: self.hash.clone() }
    }
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("record {seq} was changed: its content has another hash than it carries")]
    Changed { seq: u64 },
    #[error("records {from} to {to} are missing")]
    Missing { from: u64, to: u64 },
    #[error("record {seq} stands where record {expected} should: out of order, or twice")]
    Order { seq: u64, expected: u64 },
    #[error("record {seq} does not follow the record before it: one of the two was replaced")]
    Broken { seq: u64 },
    #[error("the newest record is {found}, and should be {expected}: the end was cut off")]
    Cut { found: u64, expected: u64 },
    #[error("record {seq} has another hash than the one that was noted elsewhere")]
    Replaced { seq: u64 },
    #[error("record {seq}, whose hash was noted elsewhere, is not in what was checked")]
    Unknown { seq: u64 },
}

/// Checks a chain record by record.
#[derive(Clone, Debug)]
pub struct Verifier {
    last: Link,
    /// A record whose hash was noted outside, and whether it was met.
    noted: Option<(Link, bool)>,
    checked: u64,
}

impl Verifier {
    /// Begins after `anchor`. `noted` is a hash that somebody kept elsewhere.
    pub fn new(anchor: Link, noted: Option<Link>) -> Self {
        let noted = noted.map(|noted| {
            let met = noted == anchor;
            (noted, met)
        });
        Self { last: anchor, noted, checked: 0 }
    }

    /// How many records were good.
    pub fn checked(&self) -> u64 {
        self.checked
    }

    /// Checks the next record.
    pub fn check(&mut self, next: &Chained) -> Result<(), Fault> {
        let (seq, expected) = (next.seq, self.last.seq + 1);
        if seq > expected {
            return Err(Fault::Missing { from: expected, to: seq - 1 });
        }
        if seq < expected {
            return Err(Fault::Order { seq, expected });
        }
        if hash(seq, &next.prev, next.revision, &next.record) != next.hash {
            return Err(Fault::Changed { seq });
        }
        if next.prev != self.last.hash {
            return Err(Fault::Broken { seq });
        }
        if let Some((noted, met)) = &mut self.noted
            && noted.seq == seq
        {
            if noted.hash != next.hash {
                return Err(Fault::Replaced { seq });
            }
            *met = true;
        }
        self.last = next.link();
        self.checked += 1;
        Ok(())
    }

    /// Checks the end against what the log says is its newest record.
    pub fn finish(&self, head: &Link) -> Result<(), Fault> {
        if self.last.seq != head.seq {
            return Err(Fault::Cut { found: self.last.seq, expected: head.seq });
        }
        if self.last.hash != head.hash {
            return Err(Fault::Replaced { seq: head.seq });
        }
        match &self.noted {
            Some((noted, false)) => Err(Fault::Unknown { seq: noted.seq }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{Fault, Verifier};
    use crate::model::audit::{Chained, Link};

    fn chain(length: u64) -> Vec<Chained> {
        let mut last = Link::default();
        let mut all = Vec::new();
        for index in 0..length {
            let record = json!({"id": format!("r{index}"), "verb": "create", "code": 201});
            let next = Chained::after(&last, 10 + i64::try_from(index).unwrap(), record);
            last = next.link();
            all.push(next);
        }
        all
    }

    fn verify(records: &[Chained], head: &Link) -> Result<u64, Fault> {
        let mut verifier = Verifier::new(Link::default(), None);
        records.iter().try_for_each(|record| verifier.check(record))?;
        verifier.finish(head)?;
        Ok(verifier.checked())
    }

    #[test]
    fn the_hash_is_that_of_the_documented_text() {
        use sha2::{Digest, Sha256};
        let first = &chain(1)[0];
        let text = format!(
            r#"{{"seq":1,"prev":"{}","revision":10,"record":{{"id":"r0","verb":"create","code":201}}}}"#,
            "0".repeat(64)
        );
        assert_eq!(first.hash, hex::encode(Sha256::digest(text.as_bytes())));
        // What was written and read again still verifies.
        let line = serde_json::to_string(first).unwrap();
        assert_eq!(&serde_json::from_str::<Chained>(&line).unwrap(), first);
        assert!(line.starts_with(&text[..text.len() - 1]), "{line}");
    }

    #[test]
    fn a_changed_removed_or_reordered_record_is_found() {
        let good = chain(6);
        let head = good[5].link();
        assert_eq!(verify(&good, &head), Ok(6));
        let mut changed = good.clone();
        changed[2].record["verb"] = "delete".into();
        assert_eq!(verify(&changed, &head), Err(Fault::Changed { seq: 3 }));
        let mut moved = good.clone();
        moved[2].revision += 1;
        assert_eq!(verify(&moved, &head), Err(Fault::Changed { seq: 3 }));
        // Changed, with a hash that fits: then the next one does not follow.
        let mut forged = good.clone();
        forged[2] = Chained::after(&good[1].link(), 12, json!({"id": "forged"}));
        assert_eq!(verify(&forged, &head), Err(Fault::Broken { seq: 4 }));
        let mut removed = good.clone();
        removed.remove(3);
        assert_eq!(verify(&removed, &head), Err(Fault::Missing { from: 4, to: 4 }));
        let mut swapped = good.clone();
        swapped.swap(1, 2);
        assert_eq!(verify(&swapped, &head), Err(Fault::Missing { from: 2, to: 2 }));
        let mut doubled = good.clone();
        doubled.insert(3, good[2].clone());
        assert_eq!(verify(&doubled, &head), Err(Fault::Order { seq: 3, expected: 4 }));
        assert_eq!(verify(&good[..4], &head), Err(Fault::Cut { found: 4, expected: 6 }));
        assert_eq!(verify(&good[1..], &head), Err(Fault::Missing { from: 1, to: 1 }));
    }

    #[test]
    fn a_noted_hash_finds_a_chain_that_was_written_anew() {
        let good = chain(6);
        let mut forged = Vec::new();
        let mut last = Link::default();
        for record in &good {
            let mut content = record.record.clone();
            content["code"] = 403.into();
            let next = Chained::after(&last, record.revision, content);
            last = next.link();
            forged.push(next);
        }
        assert_eq!(verify(&forged, &last), Ok(6), "by itself it is a good chain");
        let mut verifier = Verifier::new(Link::default(), Some(good[3].link()));
        let found = forged.iter().try_for_each(|record| verifier.check(record));
        assert_eq!(found, Err(Fault::Replaced { seq: 4 }));
        // Retention has dropped the first two.
        let noted = |link: Link| {
            let mut verifier = Verifier::new(good[1].link(), Some(link));
            good[2..].iter().try_for_each(|record| verifier.check(record))?;
            verifier.finish(&good[5].link())
        };
        assert_eq!(noted(good[4].link()), Ok(()));
        assert_eq!(noted(good[1].link()), Ok(()), "the anchor itself");
        assert_eq!(noted(good[0].link()), Err(Fault::Unknown { seq: 1 }));
    }

    proptest! {
        #[test]
        fn any_one_change_is_found(length in 2_u64..12, at in any::<prop::sample::Index>(), how in 0..5) {
            let good = chain(length);
            let head = good[good.len() - 1].link();
            let mut bad = good.clone();
            let at = at.index(bad.len());
            match how {
                0 => bad[at].record["id"] = "x".into(),
                1 => bad[at].prev = "0".repeat(63),
                2 => { bad.remove(at); }
                3 => bad.swap(at, (at + 1) % good.len()),
                _ => bad[at].hash = "f".repeat(64),
            }
            prop_assert!(verify(&bad, &head).is_err());
        }
    }
}
