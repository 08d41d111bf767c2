//! What clients saw, and the checks on it.
//!
//! Why this is enough: revisions order all writes, so if every answer agrees with the
//! history at its revision, and no answer is older than what was answered before it was
//! asked, the answers are linearizable.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use holdfast::model::kv::{EventKind, KeyValue};

pub(crate) const COUNTER: &str = "counter";

/// Kind, key and value of each event, by revision.
pub(crate) type Changes = BTreeMap<i64, Vec<(EventKind, Bytes, Bytes)>>;

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Done(i64),
    Unknown,
    Never,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    /// Newest revision that was answered to anybody.
    pub(crate) newest_answered: i64,
    /// Unique keys and what became of their one write.
    pub(crate) puts: BTreeMap<String, Fate>,
    /// Counter value that an increment wrote, and how it ended.
    pub(crate) increments: Vec<(u64, Fate)>,
    /// Revision and counter value of each linearizable read.
    pub(crate) reads: Vec<(i64, u64)>,
    /// For each watcher the events by revision.
    pub(crate) watched: BTreeMap<u64, Changes>,
    pub(crate) violations: Vec<String>,
}

impl History {
    /// Notes an answer to a request that was made when `asked_at` was the newest answered.
    pub(crate) fn answered(&mut self, what: &str, revision: i64, asked_at: i64) {
        if revision < asked_at {
            self.violations.push(format!("{what} answered revision {revision} after {asked_at}"));
        }
        self.newest_answered = self.newest_answered.max(revision);
    }
}

/// What one member holds at the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dump {
    pub(crate) revision: i64,
    /// Oldest revision that can be read, 0 if all can.
    pub(crate) compacted: i64,
    pub(crate) kvs: Vec<KeyValue>,
    /// Every change since then.
    pub(crate) changes: Changes,
}

/// The counter at a revision; `None` if the known history does not reach back that far.
fn counter_at(changes: &Changes, revision: i64) -> Option<u64> {
    let mut next = revision;
    for (at, events) in changes.range(..=revision).rev() {
        if *at != next {
            return None;
        }
        for (_, key, value) in events {
            if key[..] == *COUNTER.as_bytes() {
                return Some(parse(value));
            }
        }
        next = at - 1;
    }
    // Revision 1 is the empty store.
    (next <= 1).then_some(0)
}

/// What is left after compaction and what watchers saw before it, if all of it agrees.
fn whole_history(history: &History, dump: &Dump) -> Result<Changes, String> {
    let mut whole = dump.changes.clone();
    for (watcher, seen) in &history.watched {
        for (at, events) in seen.range(..=dump.revision) {
            let known = whole.entry(*at).or_insert_with(|| events.clone());
            if known != events {
                return Err(format!("watcher {watcher} saw {events:?} at {at}, it was {known:?}"));
            }
        }
        if let Some((at, _)) = seen.range(dump.revision + 1..).next() {
            return Err(format!("watcher {watcher} saw revision {at}, which never was"));
        }
    }
    Ok(whole)
}

pub(crate) fn parse(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

/// All checks; the first violation is the answer.
pub(crate) fn check(history: &History, dumps: &BTreeMap<u64, Dump>) -> Result<(), String> {
    if let Some(violation) = history.violations.first() {
        return Err(violation.clone());
    }
    let (first, dump) = dumps.first_key_value().ok_or("no member answered at the end")?;
    for (member, other) in dumps {
        if other != dump {
            return Err(format!("members {first} and {member} hold different states"));
        }
    }
    let live: BTreeMap<&[u8], &KeyValue> = dump.kvs.iter().map(|kv| (&kv.key[..], kv)).collect();
    for (key, fate) in &history.puts {
        let found = live.get(key.as_bytes());
        match (fate, found) {
            (Fate::Done(revision), Some(kv)) if kv.mod_revision == *revision => {}
            (Fate::Done(revision), found) => {
                return Err(format!("acknowledged {key} at {revision} is {found:?}"));
            }
            (Fate::Never, Some(kv)) => return Err(format!("refused {key} is there: {kv:?}")),
            _ => {}
        }
        if let Some(kv) = found
            && kv.version != 1
        {
            return Err(format!("{key} was written {} times", kv.version));
        }
    }
    let whole = whole_history(history, dump)?;
    check_counter(history, &whole, dump.revision)
}

fn check_counter(history: &History, whole: &Changes, newest: i64) -> Result<(), String> {
    let last = whole.values().rev().flatten().find(|(_, key, _)| key[..] == *COUNTER.as_bytes());
    let last = last.map_or(0, |(_, _, value)| parse(value));
    let mut values = BTreeSet::new();
    for (value, fate) in &history.increments {
        let Fate::Done(revision) = fate else { continue };
        if !values.insert(*value) {
            return Err(format!("two increments were acknowledged for value {value}"));
        }
        if counter_at(whole, *revision).is_some_and(|truth| truth != *value) {
            return Err(format!("acknowledged increment to {value} at {revision} is lost"));
        }
    }
    let unknown = history.increments.iter().filter(|(_, fate)| *fate == Fate::Unknown).count();
    let done = values.len() as u64;
    if last < done || last > done + unknown as u64 {
        return Err(format!("counter is {last} after {done} done and {unknown} unknown"));
    }
    for (revision, value) in &history.reads {
        // A past read of a revision that does not exist yet is an error, never an answer.
        if *revision > newest {
            return Err(format!("a read at {revision} was answered, the newest is {newest}"));
        }
        if let Some(truth) = counter_at(whole, *revision)
            && truth != *value
        {
            return Err(format!("a read at {revision} saw {value}, it was {truth}"));
        }
    }
    Ok(())
}
