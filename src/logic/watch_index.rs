//! Which watches a changed key concerns: an index by key and by range.
//!
//! Why: one change must cost what its own watches cost, not what all watches cost.
//!
//! ```text
//!  one key    → hash table
//!  a range    → sorted by start, as a balanced tree whose nodes know the furthest end
//!               below them; new ranges wait in a short list until the tree is rebuilt
//! ```
//!
//! Invariant: `matching` names each watch whose range holds the key, exactly once.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::mvcc::KeyRange;

/// New ranges that are looked through one by one before the tree is rebuilt.
const PENDING: usize = 32;

/// Watches of the same range.
#[derive(Debug)]
struct Group {
    range: KeyRange,
    watches: BTreeSet<u64>,
}

/// One node of the tree: a group and the furthest end in its part of the tree.
#[derive(Debug)]
struct Node {
    group: usize,
    /// `None` is beyond every key.
    furthest: Option<Bytes>,
}

/// All watches by what they watch.
#[derive(Debug, Default)]
pub struct WatchIndex {
    keys: HashMap<Bytes, BTreeSet<u64>>,
    groups: Vec<Group>,
    known: HashMap<KeyRange, usize>,
    tree: Vec<Node>,
    pending: Vec<usize>,
}

impl WatchIndex {
    pub fn insert(&mut self, range: &KeyRange, watch: u64) {
        if let Some(key) = range.single() {
            self.keys.entry(key.clone()).or_default().insert(watch);
            return;
        }
        if range.is_empty() {
            return;
        }
        let group = *self.known.entry(range.clone()).or_insert_with(|| {
            self.groups.push(Group { range: range.clone(), watches: BTreeSet::new() });
            self.pending.push(self.groups.len() - 1);
            self.groups.len() - 1
        });
        self.groups[group].watches.insert(watch);
        if self.pending.len() > PENDING + self.tree.len() / 8 {
            self.rebuild();
        }
    }

    pub fn remove(&mut self, range: &KeyRange, watch: u64) {
        if let Some(key) = range.single() {
            if let Some(watches) = self.keys.get_mut(key) {
                watches.remove(&watch);
                if watches.is_empty() {
                    self.keys.remove(key);
                }
            }
        } else if let Some(group) = self.known.get(range) {
            // An empty group goes when the tree is rebuilt.
            self.groups[*group].watches.remove(&watch);
        }
    }

    /// Calls `each` with every watch that the key concerns.
    pub fn matching(&self, key: &[u8], mut each: impl FnMut(u64)) {
        if let Some(watches) = self.keys.get(key) {
            watches.iter().copied().for_each(&mut each);
        }
        for group in self.pending.iter().map(|group| &self.groups[*group]) {
            if group.range.contains(key) {
                group.watches.iter().copied().for_each(&mut each);
            }
        }
        self.visit(0, self.tree.len(), key, &mut each);
    }

    fn visit(&self, from: usize, to: usize, key: &[u8], each: &mut impl FnMut(u64)) {
        if from >= to {
            return;
        }
        let middle = usize::midpoint(from, to);
        let node = &self.tree[middle];
        if node.furthest.as_ref().is_some_and(|end| end[..] <= *key) {
            return;
        }
        self.visit(from, middle, key, each);
        let group = &self.groups[node.group];
        if group.range.start()[..] <= *key {
            if group.range.contains(key) {
                group.watches.iter().copied().for_each(&mut *each);
            }
            self.visit(middle + 1, to, key, each);
        }
    }

    fn rebuild(&mut self) {
        self.groups.retain(|group| !group.watches.is_empty());
        self.groups.sort_by(|a, b| a.range.start().cmp(b.range.start()));
        let numbered = self.groups.iter().enumerate();
        self.known = numbered.map(|(number, group)| (group.range.clone(), number)).collect();
        self.pending.clear();
        self.tree = (0..self.groups.len()).map(|group| Node { group, furthest: None }).collect();
        self.measure(0, self.groups.len());
    }

    /// Notes the furthest end of each part of the tree; the answer is that of the whole.
    fn measure(&mut self, from: usize, to: usize) -> Option<Option<Bytes>> {
        if from >= to {
            return None;
        }
        let middle = usize::midpoint(from, to);
        let own = self.groups[self.tree[middle].group].range.end().cloned();
        let sides = [self.measure(from, middle), self.measure(middle + 1, to)];
        let furthest = sides.into_iter().flatten().fold(own, |a, b| match (a, b) {
            (Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        });
        self.tree[middle].furthest = furthest.clone();
        Some(furthest)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::WatchIndex;
    use crate::logic::mvcc::KeyRange;

    fn range(from: u8, to: u8) -> KeyRange {
        let end = match to {
            0 => Bytes::new(),
            1 => Bytes::from_static(&[0]),
            to => Bytes::from(vec![to]),
        };
        KeyRange::new(Bytes::from(vec![from]), end)
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_search_of_all_finds(
            changes in prop::collection::vec((any::<bool>(), 2..60_u8, 0..60_u8, 0..40_u64), 0..400)
        ) {
            let mut index = WatchIndex::default();
            let mut truth: std::collections::BTreeMap<u64, KeyRange> = Default::default();
            for (add, from, to, watch) in changes {
                if let Some(old) = truth.remove(&watch) {
                    index.remove(&old, watch);
                }
                if add {
                    index.insert(&range(from, to), watch);
                    truth.insert(watch, range(from, to));
                }
            }
            for key in 0..62_u8 {
                let mut found = Vec::new();
                index.matching(&[key], |watch| found.push(watch));
                found.sort_unstable();
                let all = truth.iter().filter(|(_, range)| range.contains(&[key]));
                prop_assert_eq!(found, all.map(|(watch, _)| *watch).collect::<Vec<_>>());
            }
        }
    }
}
