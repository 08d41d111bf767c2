//! A range of keys in etcd's terms, turned into bounds once.
//!
//! Invariant: `contains` and `bounds` agree; an inverted range is empty, never a panic.

use std::ops::Bound;

use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum End {
    /// The key alone.
    Single,
    /// Every key from the start on.
    Unbounded,
    /// Up to this key, exclusive.
    Before(Bytes),
}

/// The keys that a request is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    start: Bytes,
    end: End,
}

impl KeyRange {
    /// `range_end` as in `model::kv`: empty, `[0]`, or an exclusive end.
    pub fn new(key: Bytes, range_end: Bytes) -> Self {
        let end = if range_end.is_empty() {
            End::Single
        } else if range_end[..] == [0] {
            End::Unbounded
        } else {
            End::Before(range_end)
        };
        // A start of [0] is how etcd's clients write "from the very first key".
        Self { start: key, end }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => self.start[..] == *key,
            End::Unbounded => key >= &self.start[..],
            End::Before(end) => key >= &self.start[..] && key < &end[..],
        }
    }

    /// No key can be in it.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if end <= &self.start)
    }

    /// The one key, if the range is one key.
    pub fn single(&self) -> Option<&Bytes> {
        matches!(self.end, End::Single).then_some(&self.start)
    }

    /// First key that may be in the range.
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    /// The part of the range behind one of its keys.
    pub fn behind(&self, key: &[u8]) -> Self {
        // The smallest key after another is that key and a zero byte.
        let start = Bytes::from([key, &[0]].concat());
        match &self.end {
            End::Single => Self { end: End::Before(start.clone()), start },
            end => Self { start, end: end.clone() },
        }
    }

    /// Where the range ends, exclusively; `None` is beyond every key. Not for one key.
    pub fn end(&self) -> Option<&Bytes> {
        match &self.end {
            End::Before(end) => Some(end),
            End::Single | End::Unbounded => None,
        }
    }

    /// Bounds for an ordered map; only valid when the range is not empty.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = match &self.end {
            End::Single => Bound::Included(&self.start[..]),
            End::Unbounded => Bound::Unbounded,
            End::Before(end) => Bound::Excluded(&end[..]),
        };
        (Bound::Included(&self.start[..]), end)
    }
}
