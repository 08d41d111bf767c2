//! Logs of members match (Raft's section 5.3): where two logs, or one log at two times, hold
//! an entry of the same index and term, the entries and all before them are the same.
//!
//! By induction it is enough that each such entry has one content and one forerunner.

use std::collections::BTreeMap;

use holdfast::base::ids::Generation;
use holdfast::store::LogLine;

/// An entry's place: generation, index, term.
type Place = (u64, u64, u64);

/// Every entry that was ever seen in any member's log.
#[derive(Debug, Default)]
pub(crate) struct LogBook {
    /// Checksum, and the term of the entry before it if that was seen with it.
    entries: BTreeMap<Place, (u32, Option<u64>)>,
    /// Entries that were compared with one seen before.
    pub(crate) compared: usize,
}

impl LogBook {
    /// Compares a member's log with all that were seen before.
    pub(crate) fn compare(
        &mut self,
        generation: Generation,
        lines: &[LogLine],
    ) -> Result<(), String> {
        let mut before: Option<&LogLine> = None;
        for line in lines {
            let forerunner = before.filter(|before| before.index + 1 == line.index);
            if before.is_some() && forerunner.is_none() {
                return Err(format!("a log has a hole before {line:?}"));
            }
            if forerunner.is_some_and(|before| before.term > line.term) {
                return Err(format!("terms go back in a log: {before:?}, then {line:?}"));
            }
            let term = forerunner.map(|before| before.term);
            let place = (generation.0, line.index, line.term);
            match self.entries.get_mut(&place) {
                None => drop(self.entries.insert(place, (line.checksum, term))),
                Some((checksum, known)) => {
                    let other = known.is_some() && term.is_some() && *known != term;
                    if *checksum != line.checksum || other {
                        return Err(format!(
                            "logs do not match at {line:?} after term {term:?}: seen before with \
                             {checksum} after term {known:?}"
                        ));
                    }
                    *known = known.or(term);
                    self.compared += 1;
                }
            }
            before = Some(line);
        }
        Ok(())
    }
}
