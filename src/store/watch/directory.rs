//! Whom a change concerns, among the watches that keep up.
//!
//! ```text
//! key ► ranges that hold it ─┬─► watches of all of the range
//!                            └─► parties: value of the facet ► watches of that value
//! ```
//! Why parties: what a change costs must not grow with those it does not concern, and to
//! wake each watch of a range so that it looks for itself costs more than the change.
//!
//! Invariant: a watch is named once for a change that it may concern, and a watch with an
//! interest is left out only if the facet has told the values and its own is not among them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::logic::mvcc::KeyRange;
use crate::logic::watch_index::WatchIndex;
use crate::model::kv::Event;
use crate::store::api::{Facet, Interest};

/// What a watch is entered under.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) range: KeyRange,
    pub(super) interest: Option<Interest>,
}

/// The watches of one range that differ by one facet.
#[derive(Debug)]
struct Party {
    facet: Arc<dyn Facet>,
    watches: HashMap<String, BTreeSet<u64>>,
}

impl Party {
    fn concerned(&self, event: &Event, mut each: impl FnMut(u64)) {
        let Some(mut values) = self.facet.values(event) else {
            self.watches.values().flatten().copied().for_each(each);
            return;
        };
        values.sort();
        values.dedup();
        for value in values {
            self.watches.get(&value).into_iter().flatten().copied().for_each(&mut each);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Directory {
    index: WatchIndex,
    parties: HashMap<u64, Party>,
    /// By range and the facet's name.
    known: HashMap<(KeyRange, String), u64>,
    /// Of watches and parties, never used twice.
    numbers: u64,
}

impl Directory {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Enters a watch; the answer is its number.
    pub(super) fn insert(&mut self, place: &Place) -> u64 {
        let number = self.number();
        let Some(Interest { facet, value }) = &place.interest else {
            self.index.insert(&place.range, number);
            return number;
        };
        let of = (place.range.clone(), facet.name().to_owned());
        let party = match self.known.get(&of) {
            Some(party) => *party,
            None => {
                let party = self.number();
                self.index.insert(&place.range, party);
                let (facet, watches) = (facet.clone(), HashMap::new());
                self.parties.insert(party, Party { facet, watches });
                self.known.insert(of, party);
                party
            }
        };
        if let Some(party) = self.parties.get_mut(&party) {
            party.watches.entry(value.clone()).or_default().insert(number);
        }
        number
    }

    pub(super) fn remove(&mut self, place: &Place, number: u64) {
        let Some(Interest { facet, value }) = &place.interest else {
            self.index.remove(&place.range, number);
            return;
        };
        let of = (place.range.clone(), facet.name().to_owned());
        let Some(id) = self.known.get(&of).copied() else { return };
        let Some(party) = self.parties.get_mut(&id) else { return };
        if let Some(watches) = party.watches.get_mut(value) {
            watches.remove(&number);
            if watches.is_empty() {
                party.watches.remove(value);
            }
        }
        if party.watches.is_empty() {
            self.parties.remove(&id);
            self.known.remove(&of);
            self.index.remove(&place.range, id);
        }
    }

    /// Forgets all watches.
    pub(super) fn clear(&mut self) {
        *self = Self { numbers: self.numbers, ..Self::default() };
    }

    /// Names each watch that the change may concern, once.
    pub(super) fn concerned(&self, event: &Event, mut each: impl FnMut(u64)) {
        self.index.matching(&event.kv.key, |number| match self.parties.get(&number) {
            Some(party) => party.concerned(event, &mut each),
            None => each(number),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Directory, Place};
    use crate::logic::mvcc::KeyRange;
    use crate::model::kv::{Event, EventKind, KeyValue, prefix_end};
    use crate::store::api::{Facet, Interest};

    /// The value itself is what watches differ by; `?` cannot be read.
    #[derive(Debug)]
    struct Whole;

    impl Facet for Whole {
        fn name(&self) -> &str {
            "whole"
        }

        fn values(&self, event: &Event) -> Option<Vec<String>> {
            let sides = [Some(&event.kv), event.prev_kv.as_ref()];
            let texts = sides.into_iter().flatten();
            texts
                .map(|kv| String::from_utf8(kv.value.to_vec()).ok().filter(|text| text != "?"))
                .collect()
        }
    }

    fn place(prefix: &'static str, value: Option<&str>) -> Place {
        let interest = value.map(|value| Interest { facet: Arc::new(Whole), value: value.into() });
        Place { range: KeyRange::new(prefix.into(), prefix_end(prefix.as_bytes())), interest }
    }

    fn told(directory: &Directory, before: Option<&'static str>, after: &'static str) -> Vec<u64> {
        let kv = |value: &'static str| KeyValue {
            key: "/pods/a".into(),
            value: value.into(),
            ..KeyValue::default()
        };
        let event = Event { kind: EventKind::Put, kv: kv(after), prev_kv: before.map(kv) };
        let mut found = Vec::new();
        directory.concerned(&event, |number| found.push(number));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_change_concerns_those_of_its_values_and_those_of_none() {
        let mut directory = Directory::default();
        let all = directory.insert(&place("/pods/", None));
        let one = directory.insert(&place("/pods/", Some("n1")));
        let same = directory.insert(&place("/pods/", Some("n1")));
        let other = directory.insert(&place("/pods/", Some("n2")));
        let elsewhere = directory.insert(&place("/nodes/", Some("n1")));
        assert_eq!(told(&directory, None, "n1"), [all, one, same]);
        assert_eq!(told(&directory, Some("n1"), "n2"), [all, one, same, other], "it moved");
        assert_eq!(told(&directory, Some("n2"), "n2"), [all, other], "named once");
        assert_eq!(told(&directory, None, "n3"), [all]);
        let everybody = [all, one, same, other];
        assert_eq!(told(&directory, Some("n1"), "?"), everybody, "what nobody can read");
        assert!(!told(&directory, None, "n1").contains(&elsewhere));
    }

    #[test]
    fn who_has_left_is_not_named_again() {
        let mut directory = Directory::default();
        let (place, other) = (place("/pods/", Some("n1")), place("/pods/", Some("n2")));
        let one = directory.insert(&place);
        let two = directory.insert(&place);
        let three = directory.insert(&other);
        directory.remove(&place, one);
        assert_eq!(told(&directory, None, "n1"), [two]);
        directory.remove(&place, two);
        assert!(told(&directory, None, "n1").is_empty());
        directory.remove(&other, three);
        assert!(told(&directory, None, "?").is_empty(), "the party is over");
        let again = directory.insert(&place);
        assert_eq!(told(&directory, None, "n1"), [again]);
        directory.clear();
        assert!(told(&directory, None, "n1").is_empty());
        assert!(directory.insert(&place) > again, "no number is used twice");
    }
}
