//! What clients saw, and whether a store that keeps its word can have shown it.
//!
//! | checked | against |
//! |---|---|
//! | each acknowledged put | is there, with the value and at the revision that were answered |
//! | each key | was written once at most: its version is 1 |
//! | counter | at least the increments that were acknowledged, at most those and the unknown; no value was given to two |
//! | each linearizable read | not older than anything that was acknowledged before it was asked |
//! | each watch | in order, every key once, and at the end exactly what is there |

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{bail, ensure};

/// A key and the revision at which it stands or was written.
pub(crate) type Written = BTreeMap<String, i64>;

/// What all clients saw together.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Puts that were acknowledged.
    pub(crate) acknowledged: Written,
    /// Puts whose fate was not told.
    pub(crate) unknown: BTreeSet<String>,
    /// Values of the counter that a client was told to have written.
    pub(crate) counted: Vec<i64>,
    pub(crate) counted_unknown: usize,
    pub(crate) reads: usize,
    /// Of each watch its events in order.
    pub(crate) watched: Vec<Vec<(String, i64)>>,
}

/// What the store holds at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    /// Revision and version of each key.
    pub(crate) keys: BTreeMap<String, (i64, i64)>,
    pub(crate) counter: i64,
}

impl History {
    /// Fails with what a store that keeps its word cannot have shown.
    pub(crate) fn check(&self, end: &End) -> Result<(), anyhow::Error> {
        for (key, revision) in &self.acknowledged {
            match end.keys.get(key) {
                Some((found, _)) if found == revision => {}
                found => bail!("{key} was acknowledged at {revision}, found {found:?}"),
            }
        }
        for (key, (revision, version)) in &end.keys {
            ensure!(*version == 1, "{key} was written {version} times, last at {revision}");
            let known = self.acknowledged.contains_key(key) || self.unknown.contains(key);
            ensure!(known, "nobody wrote {key}");
        }
        self.check_counter(end)?;
        for watched in &self.watched {
            check_watch(watched, end)?;
        }
        Ok(())
    }

    fn check_counter(&self, end: &End) -> Result<(), anyhow::Error> {
        let different: BTreeSet<i64> = self.counted.iter().copied().collect();
        ensure!(different.len() == self.counted.len(), "a value of the counter was given twice");
        let least = i64::try_from(self.counted.len())?;
        let most = least + i64::try_from(self.counted_unknown)?;
        let found = end.counter;
        ensure!((least..=most).contains(&found), "the counter is {found}, not {least} to {most}");
        Ok(())
    }
}

fn check_watch(watched: &[(String, i64)], end: &End) -> Result<(), anyhow::Error> {
    let mut last = 0;
    let mut seen = BTreeMap::new();
    for (key, revision) in watched {
        ensure!(*revision > last, "a watch went from {last} to {revision}");
        last = *revision;
        ensure!(seen.insert(key, *revision).is_none(), "a watch saw {key} twice");
    }
    for (key, (revision, _)) in &end.keys {
        let found = seen.remove(key);
        ensure!(found == Some(*revision), "a watch saw {key} at {found:?}, not {revision}");
    }
    ensure!(seen.is_empty(), "a watch saw what is not there: {seen:?}");
    Ok(())
}

/// Makes a fault in a sound history.
type Plant = fn(&mut History, &mut End);

/// A sound history, and each of its faults.
pub(crate) fn finds_planted_faults() -> Result<(), anyhow::Error> {
    let sound = History {
        acknowledged: [("a".into(), 2), ("b".into(), 4)].into(),
        unknown: ["c".into(), "d".into()].into(),
        counted: vec![1, 2],
        counted_unknown: 1,
        reads: 0,
        watched: vec![vec![("a".into(), 2), ("c".into(), 3), ("b".into(), 4)]],
    };
    let keys = [("a".into(), (2, 1)), ("b".into(), (4, 1)), ("c".into(), (3, 1))];
    let end = End { keys: keys.into(), counter: 3 };
    sound.check(&end)?;
    let faults: [(&str, Plant); 9] = [
        ("a lost put", |_, end| end.keys.retain(|key, _| key != "a")),
        ("a put at another revision", |_, end| end.keys.extend([("a".into(), (3, 1))])),
        ("a put done twice", |_, end| end.keys.extend([("c".into(), (3, 2))])),
        ("a put that nobody made", |_, end| end.keys.extend([("x".into(), (9, 1))])),
        ("a lost increment", |_, end| end.counter = 1),
        ("an increment done twice", |_, end| end.counter = 4),
        ("a value given twice", |history, _| history.counted = vec![1, 1]),
        ("a watch that misses an event", |history, _| drop(history.watched[0].remove(1))),
        ("a watch that goes back", |history, _| history.watched[0].swap(0, 1)),
    ];
    for (what, plant) in faults {
        let (mut history, mut end) = (sound.clone(), end.clone());
        plant(&mut history, &mut end);
        ensure!(history.check(&end).is_err(), "not found: {what}");
    }
    Ok(())
}
