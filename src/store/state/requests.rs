//! Answered requests, remembered so that a repeated one is answered and not redone.
//!
//! Why part of the state: a request may be repeated at another leader, which must know
//! what the first one did. Why by log index: every replica forgets the same ones.
//!
//! Invariant: a request that is not remembered and whose origin had applied at least
//! [`RequestMemory::horizon`] when it first sent it was never done.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::store::codec::encoded_len;
use crate::store::types::{Refusal, Reply, RequestId};

/// Requests remembered.
pub(super) const REMEMBERED: usize = 8_192;
/// Largest answer that is kept, bytes; for a larger one only the fact is.
const ANSWER_BYTES: usize = 8 * 1024;

/// One answered request; `None` if the answer was too large.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) id: RequestId,
    pub(crate) reply: Option<Reply>,
}

impl Answered {
    pub(super) fn new(id: RequestId, reply: &Reply) -> Self {
        let small = encoded_len(reply) <= ANSWER_BYTES;
        Self { id, reply: small.then(|| reply.clone()) }
    }
}

/// The newest answered requests.
#[derive(Debug, Default)]
pub(super) struct RequestMemory {
    by_index: BTreeMap<u64, Answered>,
    by_id: HashMap<RequestId, u64>,
    /// Log index of the newest forgotten request.
    forgotten: u64,
}

impl RequestMemory {
    pub(super) fn load(rows: impl IntoIterator<Item = (u64, Answered)>, forgotten: u64) -> Self {
        let by_index: BTreeMap<u64, Answered> = rows.into_iter().collect();
        let by_id = by_index.iter().map(|(index, answered)| (answered.id, *index)).collect();
        Self { by_index, by_id, forgotten }
    }

    /// The answer to a repeated request, or to one that may have been answered once.
    pub(super) fn recall(&self, id: &RequestId, issued_at: u64) -> Option<Reply> {
        match self.by_id.get(id).and_then(|index| self.by_index.get(index)) {
            Some(answered) => {
                Some(answered.reply.clone().unwrap_or(Reply::Refused(Refusal::AnswerLost)))
            }
            None if issued_at < self.forgotten => Some(Reply::Refused(Refusal::Forgotten)),
            None => None,
        }
    }

    /// Remembers an answer and forgets the oldest beyond the bound.
    pub(super) fn remember(&mut self, index: u64, answered: Answered) {
        self.by_id.insert(answered.id, index);
        self.by_index.insert(index, answered);
        while self.by_index.len() > REMEMBERED {
            if let Some((index, old)) = self.by_index.pop_first() {
                self.by_id.remove(&old.id);
                self.forgotten = index;
            }
        }
    }

    /// Log index of the newest forgotten request, 0 if none.
    pub(super) fn horizon(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::{Answered, REMEMBERED, RequestMemory};
    use crate::base::ids::MemberId;
    use crate::store::types::{Refusal, Reply, RequestId};

    fn id(sequence: u64) -> RequestId {
        RequestId { origin: MemberId(1), run: 7, sequence }
    }

    #[test]
    fn a_forgotten_request_is_never_taken_for_a_new_one() {
        let mut memory = RequestMemory::default();
        for index in 1..=REMEMBERED as u64 + 5 {
            memory.remember(index, Answered::new(id(index), &Reply::Done));
        }
        assert_eq!(memory.horizon(), 5);
        assert_eq!(memory.recall(&id(6), 0), Some(Reply::Done));
        assert_eq!(memory.recall(&id(5), 4), Some(Reply::Refused(Refusal::Forgotten)));
        assert_eq!(memory.recall(&id(999_999), 5), None);
    }
}
