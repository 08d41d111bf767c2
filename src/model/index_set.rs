//! Sets of a job's completion indexes in Kubernetes' short form: `1,3-5,7`.
//!
//! Invariant: the runs are sorted, apart from each other and not empty.

use std::fmt;

/// What is wrong with the text of a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexSetError {
    #[error("cannot convert string to integer for index: {0:?}")]
    NotANumber(String),
    #[error("too large index: {0:?}")]
    TooLarge(String),
    #[error("non-increasing order: {0:?}")]
    Order(String),
}

/// A set of whole numbers, held as runs of neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexSet {
    runs: Vec<(u32, u32)>,
}

impl IndexSet {
    /// Reads the text form; every index must be below `completions`.
    pub fn parse(text: &str, completions: u32) -> Result<Self, IndexSetError> {
        let mut set = Self::default();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| {
                text.parse::<u32>().map_err(|_| IndexSetError::NotANumber(text.to_owned()))
            };
            let (first, last) = (number(first)?, number(last)?);
            if last >= completions {
                return Err(IndexSetError::TooLarge(part.to_owned()));
            }
            let before = set.runs.last().map(|run| run.1);
            if first > last || before.is_some_and(|before| first <= before) {
                return Err(IndexSetError::Order(part.to_owned()));
            }
            match set.runs.last_mut() {
                Some(run) if run.1 + 1 == first => run.1 = last,
                _ => set.runs.push((first, last)),
            }
        }
        Ok(set)
    }

    /// What a status says, as far as it is readable and within bounds.
    pub fn of_status(text: Option<&str>, completions: u32) -> Self {
        let mut set = Self::default();
        for part in text.unwrap_or_default().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
                for index in first..=last.min(completions.saturating_sub(1)) {
                    set.insert(index);
                }
            }
        }
        set
    }

    pub fn contains(&self, index: u32) -> bool {
        let at = self.runs.partition_point(|run| run.1 < index);
        self.runs.get(at).is_some_and(|run| run.0 <= index)
    }

    /// False if it was there already.
    pub fn insert(&mut self, index: u32) -> bool {
        let at = self.runs.partition_point(|run| run.1 < index);
        if self.runs.get(at).is_some_and(|run| run.0 <= index) {
            return false;
        }
        let joins_left = at > 0 && self.runs[at - 1].1 + 1 == index;
        let joins_right = self.runs.get(at).is_some_and(|run| index + 1 == run.0);
        match (joins_left, joins_right) {
            (true, true) => {
                self.runs[at - 1].1 = self.runs[at].1;
                self.runs.remove(at);
            }
            (true, false) => self.runs[at - 1].1 = index,
            (false, true) => self.runs[at].0 = index,
            (false, false) => self.runs.insert(at, (index, index)),
        }
        true
    }

    /// How many indexes there are.
    pub fn len(&self) -> u32 {
        self.runs.iter().map(|run| run.1 - run.0 + 1).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

impl fmt::Display for IndexSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.runs.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_kubernetes() {
        let set = IndexSet::parse("1,3-5,7", 10).unwrap();
        assert_eq!((set.len(), set.to_string().as_str()), (5, "1,3-5,7"));
        assert_eq!(IndexSet::parse("3,4", 10).unwrap().to_string(), "3,4");
        assert_eq!(IndexSet::parse("", 10).unwrap(), IndexSet::default());
        for wrong in ["a", "1,", "5-3", "3,3", "4,1-2", "10", "-1"] {
            assert!(IndexSet::parse(wrong, 10).is_err(), "{wrong}");
        }
        assert_eq!(IndexSet::of_status(Some("0-7,x,9"), 5).to_string(), "0-4");
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_set_and_survives_its_text(
            numbers in prop::collection::vec(0_u32..40, 0..60),
        ) {
            let (mut set, mut model) = (IndexSet::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(set.insert(number), model.insert(number));
            }
            prop_assert_eq!(set.len() as usize, model.len());
            for number in 0..41 {
                prop_assert_eq!(set.contains(number), model.contains(&number));
            }
            prop_assert_eq!(IndexSet::parse(&set.to_string(), 40).unwrap(), set.clone());
            prop_assert_eq!(IndexSet::of_status(Some(&set.to_string()), 40), set);
        }
    }
}
