//! Everything that can be seen of a guest from inside, to tell whether a command left the
//! host as it was: files, units, mounts, processes, control groups, links, addresses,
//! routes, packet filter rules and kernel settings.
//!
//! Why as lines of text: the difference of two states then says itself what changed.
//! Not compared: what only the package manager writes to (`/usr/share` and the like),
//! which kernel modules are loaded (`reset` leaves them, others may use them by now) and
//! the settings that came with them.

use std::collections::BTreeSet;
use std::time::Duration;

use libtest_mimic::Failed;

use crate::failure::{Outcome, ensure};
use crate::guest::Guest;
use crate::running::eventually;

const LOOK: &str = include_str!("host_state.sh");
/// Some thousand lines cost an emulated machine ten seconds, and a busy one many more.
const PATIENCE: Duration = Duration::from_secs(300);
/// What was left running for a moment may need this long to go.
const SETTLE: Duration = Duration::from_secs(20);

/// One look at a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostState(BTreeSet<String>);

impl HostState {
    /// Looks at a running guest.
    pub(crate) fn of(guest: &Guest) -> Result<Self, Failed> {
        let text = guest.succeed(LOOK, PATIENCE)?;
        let lines: BTreeSet<String> = text.lines().map(ToOwned::to_owned).collect();
        ensure(lines.len() > 1000, || format!("the look saw only {} lines", lines.len()))?;
        Ok(Self(lines))
    }

    /// What of `self` is gone and what of `later` is new, one line each.
    fn changes(&self, later: &Self) -> Vec<String> {
        let gone = self.0.difference(&later.0).map(|line| format!("- {line}"));
        let new = later.0.difference(&self.0).map(|line| format!("+ {line}"));
        gone.chain(new).collect()
    }

    /// Fails unless the host is now as it was then.
    pub(crate) fn ensure_still(&self, guest: &Guest, after: &str) -> Outcome {
        eventually(&format!("the host is as it was before {after}"), SETTLE, || {
            let changes = self.changes(&Self::of(guest)?);
            ensure(changes.is_empty(), || format!("{after} left:\n{}", changes.join("\n")))
        })
    }

    /// Fails unless something changed: a look that sees nothing would pass everything.
    pub(crate) fn ensure_changed(&self, guest: &Guest, expected: &[&str]) -> Outcome {
        let changes = self.changes(&Self::of(guest)?).join("\n");
        let unseen: Vec<&&str> = expected.iter().filter(|text| !changes.contains(**text)).collect();
        ensure(unseen.is_empty(), || format!("the look does not see {unseen:?} in:\n{changes}"))
    }
}
